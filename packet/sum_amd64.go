package packet

import (
	"math/bits"

	"golang.org/x/sys/cpu"
)

// useAVX2 is set once at start; both ways give the same sums.
var useAVX2 = cpu.X86.HasAVX2

func sumNative(b []byte) uint64 {
	if !useAVX2 || len(b) < vectorMin {
		return sumGeneric(b)
	}
	n := len(b) &^ 7
	head := sumAVX2(&b[0], n)
	if n == len(b) {
		return head
	}
	s, c := bits.Add64(head, lastWord(b[n:]), 0)
	return s + c
}

func copySumNative(dst, src []byte) uint64 {
	if !useAVX2 || len(src) < vectorMin {
		return copySumGeneric(dst, src)
	}
	n := len(src) &^ 7
	head := copySumAVX2(&dst[0], &src[0], n)
	if n == len(src) {
		return head
	}
	copy(dst[n:], src[n:])
	s, c := bits.Add64(head, lastWord(src[n:]), 0)
	return s + c
}

// sumAVX2 returns a sum of the 32-bit words of the n bytes at p; n is a multiple of 8 below
// 2^34, and not 0.
//
//go:noescape
func sumAVX2(p *byte, n int) uint64

// copySumAVX2 is sumAVX2 of src and copies as it goes.
//
//go:noescape
func copySumAVX2(dst, src *byte, n int) uint64

// vectorMin is the length in bytes from which the vector code pays for its call and its reduction.
const vectorMin = 96
