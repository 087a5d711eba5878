package topology

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// writeFile writes a file that programs inside are configured with, and returns its path. It
// carries the network's name and goes with it.
func (n *Network) writeFile(name string, content []byte) (string, error) {
	path := filepath.Join(fileDir, prefix+n.id+"-"+name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	n.files = append(n.files, path)
	return path, nil
}

// removeFiles removes what writeFile has written.
func (n *Network) removeFiles() error {
	var errs []error
	for _, path := range n.files {
		if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	n.files = nil
	return errors.Join(errs...)
}

// fileDir is one that only root writes to: names in it are nobody's to guess.
const fileDir = "/var/run"
