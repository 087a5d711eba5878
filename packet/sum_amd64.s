#include "textflag.h"

// Both functions keep, in each 64-bit lane, Y0 and Y1 = the sum of all 64-bit words modulo 2^64,
// and Y2 and Y3 = the exact sum of their upper halves. The sum of the lower halves follows from
// the two in REDUCE, so that a vector costs one shift and two additions, and no carry is lost:
// each half stays below 2^64 for any length below 2^34 bytes.

#define ADD4 \
	VPADDQ Y4, Y0, Y0 \
	VPADDQ Y5, Y1, Y1 \
	VPSRLQ $32, Y4, Y4 \
	VPSRLQ $32, Y5, Y5 \
	VPADDQ Y6, Y0, Y0 \
	VPADDQ Y7, Y1, Y1 \
	VPSRLQ $32, Y6, Y6 \
	VPSRLQ $32, Y7, Y7 \
	VPADDQ Y4, Y2, Y2 \
	VPADDQ Y5, Y3, Y3 \
	VPADDQ Y6, Y2, Y2 \
	VPADDQ Y7, Y3, Y3

#define ADD1 \
	VPADDQ Y4, Y0, Y0 \
	VPSRLQ $32, Y4, Y4 \
	VPADDQ Y4, Y2, Y2

// lower = all - upper<<32; AX = the sum of both over the four lanes.
#define REDUCE \
	VPADDQ Y1, Y0, Y0 \
	VPADDQ Y3, Y2, Y2 \
	VPSLLQ $32, Y2, Y4 \
	VPSUBQ Y4, Y0, Y0 \
	VPADDQ Y2, Y0, Y0 \
	VEXTRACTI128 $1, Y0, X1 \
	VPADDQ X1, X0, X0 \
	VPSRLDQ $8, X0, X1 \
	VPADDQ X1, X0, X0 \
	VMOVQ X0, AX \
	VZEROUPPER

#define CLEAR \
	VPXOR Y0, Y0, Y0 \
	VPXOR Y1, Y1, Y1 \
	VPXOR Y2, Y2, Y2 \
	VPXOR Y3, Y3, Y3

// func sumAVX2(p *byte, n int) uint64
TEXT ·sumAVX2(SB), NOSPLIT, $0-24
	MOVQ p+0(FP), SI
	MOVQ n+8(FP), CX
	CLEAR
	SUBQ $128, CX
	JB   sumRest

sumLoop:
	VMOVDQU (SI), Y4
	VMOVDQU 32(SI), Y5
	VMOVDQU 64(SI), Y6
	VMOVDQU 96(SI), Y7
	ADD4
	ADDQ    $128, SI
	SUBQ    $128, CX
	JAE     sumLoop

sumRest:
	ADDQ $96, CX
	JMI  sumTail

sumOne:
	VMOVDQU (SI), Y4
	ADD1
	ADDQ    $32, SI
	SUBQ    $32, CX
	JAE     sumOne

sumTail:
	// CX is the bytes left, 0, 8, 16 or 24, minus 32: bits 3 and 4 are theirs.
	TESTQ   $16, CX
	JZ      sumEight
	VMOVDQU (SI), X4
	ADD1
	ADDQ    $16, SI

sumEight:
	TESTQ $8, CX
	JZ    sumDone
	VMOVQ (SI), X4
	ADD1

sumDone:
	REDUCE
	MOVQ AX, ret+16(FP)
	RET

// func copySumAVX2(dst, src *byte, n int) uint64
TEXT ·copySumAVX2(SB), NOSPLIT, $0-32
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	CLEAR
	SUBQ $128, CX
	JB   copyRest

copyLoop:
	VMOVDQU (SI), Y4
	VMOVDQU 32(SI), Y5
	VMOVDQU 64(SI), Y6
	VMOVDQU 96(SI), Y7
	VMOVDQU Y4, (DI)
	VMOVDQU Y5, 32(DI)
	VMOVDQU Y6, 64(DI)
	VMOVDQU Y7, 96(DI)
	ADD4
	ADDQ    $128, SI
	ADDQ    $128, DI
	SUBQ    $128, CX
	JAE     copyLoop

copyRest:
	ADDQ $96, CX
	JMI  copyTail

copyOne:
	VMOVDQU (SI), Y4
	VMOVDQU Y4, (DI)
	ADD1
	ADDQ    $32, SI
	ADDQ    $32, DI
	SUBQ    $32, CX
	JAE     copyOne

copyTail:
	// CX is the bytes left, 0, 8, 16 or 24, minus 32: bits 3 and 4 are theirs.
	TESTQ   $16, CX
	JZ      copyEight
	VMOVDQU (SI), X4
	VMOVDQU X4, (DI)
	ADD1
	ADDQ    $16, SI
	ADDQ    $16, DI

copyEight:
	TESTQ $8, CX
	JZ    copyDone
	VMOVQ (SI), X4
	VMOVQ X4, (DI)
	ADD1

copyDone:
	REDUCE
	MOVQ AX, ret+24(FP)
	RET
