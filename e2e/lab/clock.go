package lab

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// PutClock has the program, and nobody else on this machine, see a time of day that
// is so much ahead (or, below zero, behind) from now on. Its monotonic clock goes on.
//
// All nodes are one machine, with one clock. Programs read it in code that the
// kernel maps into each of them (vDSO). That of this one is led to other code: where
// the vDSO has time(2), which Go does not use. So nobody is surprised in the midst
// of it.
func (d *Daemon) PutClock(ahead time.Duration) error {
	m, err := vdsoOf(d.PID())
	if err != nil {
		return err
	}
	defer m.mem.Close()
	read, err := m.symbol("__vdso_clock_gettime")
	other, err2 := m.symbol("__vdso_time")
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	const jump, seconds = 0xe9, 14
	put := binary.LittleEndian.AppendUint32(nil, uint32(int32(ahead/time.Second)))
	if m.image[read] == jump { // it was led there before
		return m.write(other+seconds, put)
	}
	code := slices.Concat([]byte{
		0xb8, 0xe4, 0, 0, 0, // mov $228, %eax: clock_gettime
		0x0f, 0x05, // syscall
		0x85, 0xff, // test %edi, %edi: CLOCK_REALTIME?
		0x75, 0x07, // jne over the next
		0x48, 0x81, 0x06, // addq $seconds, (%rsi)
	}, put, []byte{0xc3}) // ret
	lead := binary.LittleEndian.AppendUint32([]byte{jump}, uint32(int32(other-read-5)))
	return errors.Join(m.write(other, code), m.write(read, lead))
}

// A vdso is that of a process.
type vdso struct {
	mem   *os.File // of the process
	from  int64
	image []byte // as it was
}

func vdsoOf(pid int) (*vdso, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	m, to := &vdso{}, int64(0)
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			if _, err := fmt.Sscanf(line, "%x-%x", &m.from, &to); err != nil {
				return nil, err
			}
		}
	}
	if to == 0 {
		return nil, fmt.Errorf("process %d has no vDSO", pid)
	}
	if m.mem, err = os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0); err != nil {
		return nil, err
	}
	m.image = make([]byte, to-m.from)
	if _, err := m.mem.ReadAt(m.image, m.from); err != nil {
		return nil, errors.Join(fmt.Errorf("reading the vDSO of process %d: %w", pid, err), m.mem.Close())
	}
	return m, nil
}

// symbol returns where a function begins.
func (m *vdso) symbol(name string) (int64, error) {
	file, err := elf.NewFile(bytes.NewReader(m.image))
	if err != nil {
		return 0, fmt.Errorf("reading the vDSO: %w", err)
	}
	if file.Machine != elf.EM_X86_64 {
		return 0, fmt.Errorf("clocks of %s cannot be put", file.Machine)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return 0, fmt.Errorf("reading the vDSO: %w", err)
	}
	for _, s := range symbols {
		if s.Name == name {
			return int64(s.Value), nil
		}
	}
	return 0, fmt.Errorf("the vDSO has no %s", name)
}

func (m *vdso) write(at int64, code []byte) error {
	_, err := m.mem.WriteAt(code, m.from+at)
	return err
}
