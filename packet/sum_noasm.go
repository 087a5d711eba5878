//go:build !amd64

package packet

func sumNative(b []byte) uint64            { return sumGeneric(b) }
func copySumNative(dst, src []byte) uint64 { return copySumGeneric(dst, src) }
