package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// profiler records a process with perf and leaves NAME.perf and NAME.txt in dir. The event is
// the software clock, which virtual machines have too.
func profiler(dir string) func(ctx context.Context, pid int, name string) (func() error, error) {
	return func(ctx context.Context, pid int, name string) (func() error, error) {
		data := filepath.Join(dir, name+".perf")
		var log bytes.Buffer
		cmd := exec.Command("perf", "record", "-q", "-e", "cpu-clock", "-F", "999", "-g", "-o", data, "-p", strconv.Itoa(pid))
		cmd.Stderr = &log
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			return nil, fmt.Errorf("profile: %w", err)
		}
		return func() error {
			_ = cmd.Process.Signal(os.Interrupt)
			// perf ends by the signal it was asked to end with; what counts is the file.
			_ = cmd.Wait()
			text, err := exec.CommandContext(ctx, "perf", "report", "--stdio", "--no-children", "-g", "none", "-i", data).Output()
			if err != nil {
				return fmt.Errorf("profile: %w: %s", err, bytes.TrimSpace(log.Bytes()))
			}
			return os.WriteFile(filepath.Join(dir, name+".txt"), text, 0o644)
		}, nil
	}
}
