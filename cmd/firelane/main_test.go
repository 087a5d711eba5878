package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary plays three parts: what `go test` starts, the same in namespaces of its own,
// where the tests run, and the program under test.
const (
	envInside  = "FIRELANE_TEST_INSIDE"
	envProgram = "FIRELANE_TEST_PROGRAM"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(envProgram) != "":
		os.Exit(run(os.Args, os.Stderr))
	case os.Getenv(envInside) != "":
		if err := prepare(); err != nil {
			fmt.Fprintln(os.Stderr, "prepare namespaces:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	c := exec.Command(os.Args[0], os.Args[1:]...)
	c.Env = append(os.Environ(), envInside+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	var exit *exec.ExitError
	if err := c.Run(); errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	} else if err != nil {
		fmt.Fprintln(os.Stderr, "make namespaces for the tests (needs root):", err)
		os.Exit(1)
	}
}

// prepare gives the tests a folder of configuration sockets of their own and a view of their
// own processes: this one is the first of its namespace, so what goes to the background becomes
// its child, and ends with it.
func prepare() error {
	const sockets = "/var/run/wireguard"
	if err := os.MkdirAll(sockets, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("none", sockets, "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", sockets, err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return os.Unsetenv(envInside)
}
