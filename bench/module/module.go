// Package module runs the go command on this module, for the benchmarks: they build what they measure
// and name the versions that they measured.
package module

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Go runs the go command in a folder, the module's root as a rule, and returns what it prints. An
// error has what it says.
func Go(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	var stderr bytes.Buffer
	cmd.Dir, cmd.Stderr = dir, &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// Root is the folder of go.mod, from wherever in the module this is run.
func Root(ctx context.Context) (string, error) {
	out, err := Go(ctx, "", "env", "GOMOD")
	if err != nil {
		return "", err
	}
	mod := strings.TrimSpace(string(out))
	if mod == "" || mod == os.DevNull {
		return "", errors.New("run it inside the firelane module")
	}
	return filepath.Dir(mod), nil
}
