package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// profiler records a process with perf and leaves NAME.perf and NAME.txt in dir. The event is the
// software clock, which virtual machines have too.
func profiler(dir string) func(pid int, name string) (func() error, error) {
	return func(pid int, name string) (func() error, error) {
		data := filepath.Join(dir, name+".perf")
		record := exec.Command("perf", "record", "-q", "-e", "cpu-clock", "-F", "1999", "-g", "-o", data, "-p", strconv.Itoa(pid))
		if err := record.Start(); err != nil {
			return nil, fmt.Errorf("profile: %w", err)
		}
		return func() error {
			_ = record.Process.Signal(os.Interrupt)
			_ = record.Wait() // it ends by the signal; what counts is the file
			text, err := exec.Command("perf", "report", "--stdio", "--no-children", "-g", "none", "-i", data).Output()
			if err != nil {
				return fmt.Errorf("profile: %w", err)
			}
			return os.WriteFile(filepath.Join(dir, name+".txt"), text, 0o644)
		}, nil
	}
}
