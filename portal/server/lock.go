package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lockName is the file in Options.Data that the portal which runs there holds a lock on. It is empty, and
// stays when the portal ends; the lock ends with the process, however that ends.
const lockName = "portal.lock"

// lockData makes sure that no other portal runs on the data directory: each would keep its own view of who
// is connected and authorized. Subcommands do not ask, the running portal notices what they do. The lock
// lasts until the file is closed.
func lockData(data string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(data, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		err = fmt.Errorf("another portal runs on the data directory %s: stop it first, or choose another directory with --data", data)
	case err != nil:
		err = fmt.Errorf("lock data directory: %w", err)
	default:
		return f, nil
	}
	return nil, errors.Join(err, f.Close())
}
