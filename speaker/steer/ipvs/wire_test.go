package ipvs

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	moby "github.com/moby/ipvs"
	"golang.org/x/sys/unix"
)

// A fakeSocket answers each command with what verdict says, in its order, one
// datagram each: as the kernel does. The hooks spoil that.
type fakeSocket struct {
	verdict func(command int) syscall.Errno // by the place of a command among all

	mangle  func(acks [][]byte) [][]byte // of one batch
	trouble []error                      // the next calls of receive fail with these
	refuse  error                        // of send

	sent    int // commands
	batches int
	queue   [][]byte
}

func (f *fakeSocket) send(datagram []byte) error {
	f.batches++
	if f.refuse != nil {
		return f.refuse
	}
	messages, err := syscall.ParseNetlinkMessage(datagram)
	if err != nil {
		return unix.EINVAL
	}
	var acks [][]byte
	for _, m := range messages {
		acks = append(acks, ack(m.Header.Seq, f.verdict(f.sent)))
		f.sent++
	}
	if f.mangle != nil {
		acks = f.mangle(acks)
	}
	f.queue = append(f.queue, acks...)
	return nil
}

func (f *fakeSocket) receive() ([][]byte, error) {
	if len(f.trouble) > 0 {
		err := f.trouble[0]
		f.trouble = f.trouble[1:]
		return nil, err
	}
	if len(f.queue) == 0 {
		return nil, unix.EAGAIN
	}
	n := min(3, len(f.queue))
	some := f.queue[:n]
	f.queue = f.queue[n:]
	return some, nil
}

func (f *fakeSocket) close() error { return nil }

// ack is what the kernel answers, capped: struct nlmsghdr, the error, and the
// head of the command.
func ack(seq uint32, errno syscall.Errno) []byte {
	b := binary.NativeEndian.AppendUint32(nil, 36)
	b = binary.NativeEndian.AppendUint16(b, unix.NLMSG_ERROR)
	b = binary.NativeEndian.AppendUint16(b, 0x100) // NLM_F_CAPPED
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, 4242)
	b = binary.NativeEndian.AppendUint32(b, uint32(-int32(errno)))
	return append(b, make([]byte, 16)...)
}

// fakeWire is a wire to f whose batches hold n commands.
func fakeWire(f *fakeSocket, n int) *wire {
	return &wire{family: 31, batcher: batcher{sock: f, limit: wireLimit{bytes: sendBuffer, commands: n}, seq: 1}}
}

func nothingFails(int) syscall.Errno { return 0 }

// someCommands are n different ones.
func someCommands(n int) []command {
	cmds := make([]command, n)
	for i := range cmds {
		cmds[i] = command{op: opNewService, svc: &moby.Service{
			Address: []byte{192, 0, 2, 1}, Port: uint16(i), Protocol: 6, AddressFamily: unix.AF_INET, SchedName: "rr",
		}}
	}
	return cmds
}

func TestEveryCommandGetsItsOwnAnswer(t *testing.T) {
	third := func(i int) syscall.Errno {
		if i%3 == 2 {
			return unix.EEXIST
		}
		return 0
	}
	exist := []error{nil, nil, unix.EEXIST, nil, nil, unix.EEXIST}
	tests := []struct {
		name  string
		spoil func(*fakeSocket)
		want  []error // of six commands, four to a batch
	}{
		{"all acknowledged", func(f *fakeSocket) { f.verdict = nothingFails }, make([]error, 6)},
		{"an error in the middle stops nobody", func(*fakeSocket) {}, exist},
		{"acknowledgements come in any order", func(f *fakeSocket) {
			f.mangle = func(acks [][]byte) [][]byte { slices.Reverse(acks); return acks }
		}, exist},
		{"all acknowledgements come in one datagram", func(f *fakeSocket) {
			f.mangle = func(acks [][]byte) [][]byte { return [][]byte{slices.Concat(acks...)} }
		}, exist},
		{"an interrupted read is repeated", func(f *fakeSocket) {
			f.trouble = []error{unix.EINTR, unix.EINTR}
		}, exist},
		{"after an overrun that lost nothing all is known", func(f *fakeSocket) {
			f.trouble = []error{unix.ENOBUFS}
		}, exist},
		{"after an overrun the rest is lost", func(f *fakeSocket) {
			f.trouble = []error{unix.ENOBUFS}
			f.mangle = func(acks [][]byte) [][]byte { return acks[:1] }
		}, []error{nil, errLost, errLost, errLost, nil, errLost}},
		{"what is not acknowledged is lost", func(f *fakeSocket) {
			f.mangle = func(acks [][]byte) [][]byte { return slices.Delete(acks, 1, 2) }
		}, []error{nil, errLost, unix.EEXIST, nil, nil, errLost}},
		{"a second answer does not count", func(f *fakeSocket) {
			f.mangle = func(acks [][]byte) [][]byte {
				return append([][]byte{acks[0], ack(1, unix.EPERM), ack(5, unix.EPERM)}, acks[1:]...)
			}
		}, exist},
		{"answers to earlier batches are skipped", func(f *fakeSocket) {
			f.queue = [][]byte{ack(0, unix.EPERM), ack(1<<31, unix.EPERM), ack(^uint32(0), unix.EPERM)}
		}, exist},
		{"garbage is skipped", func(f *fakeSocket) {
			f.queue = [][]byte{{}, {1, 2, 3}, make([]byte, 40), ack(1, 0)[:19]}
		}, exist},
		{"an answer that repeats the command may be cut off", func(f *fakeSocket) {
			f.mangle = func(acks [][]byte) [][]byte {
				for _, a := range acks {
					binary.NativeEndian.PutUint32(a, 500)
				}
				return acks
			}
		}, exist},
		{"a socket that is always overrun is given up", func(f *fakeSocket) {
			f.trouble = slices.Repeat([]error{unix.ENOBUFS}, 2*persistence)
		}, slices.Repeat([]error{errLost}, 6)},
		{"a dead socket says so", func(f *fakeSocket) {
			f.trouble = slices.Repeat([]error{unix.EBADF}, 2)
		}, slices.Repeat([]error{unix.EBADF}, 6)},
		{"what cannot be sent is not lost", func(f *fakeSocket) { f.refuse = unix.ENOMEM },
			slices.Repeat([]error{unix.ENOMEM}, 6)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := &fakeSocket{verdict: third}
			tt.spoil(f)
			got := fakeWire(f, 4).do(context.Background(), someCommands(6))
			for i := range tt.want {
				if !errors.Is(got[i], tt.want[i]) {
					t.Errorf("command %d: %v, want %v", i, got[i], tt.want[i])
				}
			}
		})
	}
}

func TestADeadSocketLosesItsAnswers(t *testing.T) {
	f := &fakeSocket{verdict: nothingFails, trouble: []error{unix.EBADF}}
	if err := fakeWire(f, 4).do(context.Background(), someCommands(1))[0]; !errors.Is(err, errLost) {
		t.Errorf("do() = %v, want %v: the command was sent", err, errLost)
	}
}

func TestWhatCannotBeEncodedIsNotSent(t *testing.T) {
	cmds := someCommands(5)
	cmds[1].svc = nil
	cmds[4].op = 0
	f := &fakeSocket{verdict: func(i int) syscall.Errno { return []syscall.Errno{0, 0, unix.EPERM}[i] }}
	got := fakeWire(f, 8).do(context.Background(), cmds)
	if got[0] != nil || got[1] == nil || got[2] != nil || got[3] != unix.EPERM || got[4] == nil || f.sent != 3 {
		t.Errorf("do() = %q after sending %d, want the second and the last to fail and three sent", got, f.sent)
	}
	if got := fakeWire(f, 8).do(context.Background(), []command{{}}); got[0] == nil || f.batches != 1 {
		t.Errorf("do() = %v, %d batches, want an error and nothing sent", got, f.batches)
	}
}

func TestAfterTheContextNothingIsSent(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	f := &fakeSocket{verdict: func(i int) syscall.Errno {
		if i == 3 {
			cancel()
		}
		return 0
	}}
	got := fakeWire(f, 4).do(ctx, someCommands(10))
	for i, err := range got {
		if want := ctx.Err(); i < 4 && err != nil || i >= 4 && !errors.Is(err, want) {
			t.Errorf("command %d: %v", i, err)
		}
	}
	if f.sent != 4 {
		t.Errorf("%d commands were sent, want 4", f.sent)
	}
}

func TestABatchFitsItsBuffer(t *testing.T) {
	const most = 1000
	f := &fakeSocket{verdict: nothingFails}
	w := fakeWire(f, 1<<20)
	w.limit.bytes = most
	for i, err := range w.do(context.Background(), someCommands(100)) {
		if err != nil {
			t.Errorf("command %d: %v", i, err)
		}
	}
	if f.sent != 100 || f.batches < 100*80/most || f.batches > 100*100/most {
		t.Errorf("%d commands in %d batches", f.sent, f.batches)
	}
}

// Whatever way the acknowledgements come, every command gets its own answer,
// or is lost if that does not come; over the end of the sequence numbers, too.
func TestAnswersComeInAnyWay(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	w := fakeWire(nil, 0)
	for round := range 300 {
		n := rnd.IntN(200)
		want := make([]error, n)
		f := &fakeSocket{}
		f.verdict = func(i int) syscall.Errno {
			errno := []syscall.Errno{0, 0, unix.EEXIST, unix.ENOENT, unix.ESRCH}[rnd.IntN(5)]
			if want[i] = errno; errno == 0 {
				want[i] = nil
			}
			return errno
		}
		f.mangle = func(acks [][]byte) [][]byte {
			for i := range acks {
				if rnd.IntN(50) == 0 { // this one is lost
					want[f.sent-len(acks)+i], acks[i] = errLost, nil
				}
			}
			rnd.Shuffle(len(acks), func(i, j int) { acks[i], acks[j] = acks[j], acks[i] })
			acks = append(acks, ack(w.seq+uint32(w.limit.commands), unix.EPERM)) // of nobody
			return regroup(rnd, acks)
		}
		w.sock, w.limit.commands = f, 1+rnd.IntN(60)
		if round == 100 {
			w.seq = ^uint32(0) - 1000
		}
		if got := w.do(context.Background(), someCommands(n)); !slices.Equal(got, want) {
			t.Fatalf("round %d: do() = %v\nwant %v", round, got, want)
		}
	}
}

// regroup puts datagrams together at random.
func regroup(rnd *rand.Rand, datagrams [][]byte) (groups [][]byte) {
	for len(datagrams) > 0 {
		n := 1 + rnd.IntN(len(datagrams))
		groups = append(groups, slices.Concat(datagrams[:n]...))
		datagrams = datagrams[n:]
	}
	return groups
}

func TestBatchesAllocateNothing(t *testing.T) {
	cmds, errs := someCommands(200), make([]error, 200)
	w := fakeWire(nil, 1000)
	w.fill(w.encoder(cmds), 0, errs)
	if n := testing.AllocsPerRun(20, func() { w.fill(w.encoder(cmds), 0, errs) }); n != 0 {
		t.Errorf("filling a batch allocates %v times", n)
	}
	acks := [][]byte{ack(w.seq-200, 0), ack(w.seq-1, unix.EEXIST)}
	if n := testing.AllocsPerRun(20, func() {
		for _, a := range acks {
			for seq, errno := range answers(a) {
				note(errs, seq-(w.seq-200), errno)
			}
		}
	}); n != 0 {
		t.Errorf("noting answers allocates %v times", n)
	}
}
