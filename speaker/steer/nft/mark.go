package nft

import (
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
)

// orMark sets the bit that asks for masquerading.
func orMark(mark uint32) []expr.Any { return editMark(^mark, mark) }

// orConnMark sets the bit of the connection, and clearConnMark clears it.
func orConnMark(mark uint32) []expr.Any    { return editConnMark(^mark, mark) }
func clearConnMark(mark uint32) []expr.Any { return editConnMark(^mark, 0) }

// hasConnMark matches packets of connections whose bit is set.
func hasConnMark(mark uint32) []expr.Any {
	return []expr.Any{&expr.Ct{Key: expr.CtKeyMARK, Register: reg(0)}, bits(0, mark, 0), notZero(0)}
}

// masquerade does so where the bit is set, and clears it: a tunnel hands the
// mark on to its own packets, which are not to be masqueraded again.
func masquerade(mark uint32) []expr.Any {
	match := []expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: reg(0)}, bits(0, mark, 0), notZero(0)}
	return append(append(match, editMark(^mark, 0)...), &expr.Masq{FullyRandom: true})
}

func editMark(keep, set uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg(0)},
		bits(0, keep, set),
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg(0)},
	}
}

func editConnMark(keep, set uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeyMARK, Register: reg(0)},
		bits(0, keep, set),
		&expr.Ct{Key: expr.CtKeyMARK, SourceRegister: true, Register: reg(0)},
	}
}

// bits keeps some bits of a register and turns some.
func bits(at int, keep, turn uint32) expr.Any {
	return &expr.Bitwise{SourceRegister: reg(at), DestRegister: reg(at), Len: 4,
		Mask: binaryutil.NativeEndian.PutUint32(keep), Xor: binaryutil.NativeEndian.PutUint32(turn)}
}

func notZero(at int) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpNeq, Register: reg(at), Data: []byte{0, 0, 0, 0}}
}
