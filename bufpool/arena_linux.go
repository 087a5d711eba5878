package bufpool

import "golang.org/x/sys/unix"

// mapArena maps size bytes that the garbage collector neither sees nor scans. Nothing is
// reserved or touched: the kernel supplies pages as they are written.
func mapArena(size int) ([]byte, error) {
	arena, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, err
	}
	// Both are wishes: a kernel built without huge pages or core dumps refuses them, and the
	// arena works the same.
	_ = unix.Madvise(arena, unix.MADV_HUGEPAGE)
	_ = unix.Madvise(arena, unix.MADV_DONTDUMP)
	return arena, nil
}

func unmapArena(arena []byte) error { return unix.Munmap(arena) }
