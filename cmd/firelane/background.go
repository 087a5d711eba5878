package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// startTimeout bounds how long the process in the background may take to make its interface.
// It takes milliseconds; a machine that needs longer than this is stuck.
const startTimeout = 30 * time.Second

// startInBackground runs this command line again in a process of its own, and returns when
// that process has made the interface and listens on the configuration socket, or with the
// reason why it has not.
//
// Nothing is made here: a tunnel has a descriptor for each queue, and only the process that
// keeps them needs them. Descriptors given by the environment are passed on.
func startInBackground(cfg wgConfig) error {
	r, w, err := os.Pipe()
	if err != nil {
		return &failure{err: fmt.Errorf("go to the background: %w", err)}
	}
	defer r.Close()
	child, err := backgroundCommand(cfg, w)
	if err == nil {
		err = child.Start()
	}
	w.Close()
	if err != nil {
		return &failure{err: fmt.Errorf("go to the background: %w", err)}
	}
	r.SetReadDeadline(time.Now().Add(startTimeout))
	line, err := bufio.NewReader(io.LimitReader(r, maxTold)).ReadString('\n')
	switch {
	case line == toldReady:
		return child.Process.Release()
	case errors.Is(err, os.ErrDeadlineExceeded):
		child.Process.Kill()
		child.Wait()
		return &failure{err: fmt.Errorf("interface %s did not come up within %v: try again with --foreground and LOG_LEVEL=debug", cfg.name, startTimeout)}
	case line == "":
		return &failure{err: fmt.Errorf("the process in the background ended early (%v): try again with --foreground", child.Wait())}
	}
	child.Wait()
	return &failure{err: errors.New(line)}
}

// backgroundCommand is this command line with ready, and the descriptors of the environment,
// handed over. It logs only if a level was asked for, as wireguard-go does.
func backgroundCommand(cfg wgConfig, ready *os.File) (*exec.Cmd, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &exec.Cmd{
		Path:        path,
		Args:        os.Args,
		Env:         append(os.Environ(), envForeground+"=1"),
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if cfg.verbose {
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
	}
	pass := func(name string, f *os.File) {
		const firstExtra = 3 // after standard input, output and error
		c.Env = append(c.Env, name+"="+strconv.Itoa(firstExtra+len(c.ExtraFiles)))
		c.ExtraFiles = append(c.ExtraFiles, f)
	}
	pass(envReadyFD, ready)
	if cfg.tunFD >= 0 {
		pass(envTunFD, os.NewFile(uintptr(cfg.tunFD), envTunFD))
	}
	if cfg.uapiFD >= 0 {
		pass(envUAPIFD, os.NewFile(uintptr(cfg.uapiFD), envUAPIFD))
	}
	return c, nil
}

// toldReady is what the process in the background writes when it runs; anything else is an
// error, on one line.
const toldReady = "ready\n"

// maxTold bounds that line in bytes: less than a pipe takes at once.
const maxTold = 4096

// parent is the process that waits for this one to be ready; the zero parent does not exist.
type parent struct{ pipe *os.File }

// parentOf returns the parent that waits at the pipe of cfg, if there is one.
func parentOf(cfg wgConfig) parent {
	if cfg.readyFD < 0 {
		return parent{}
	}
	syscall.CloseOnExec(cfg.readyFD)
	return parent{os.NewFile(uintptr(cfg.readyFD), envReadyFD)}
}

// tell sends err, or that all is well, and reports whether somebody was there to be told.
func (p parent) tell(err error) bool {
	if p.pipe == nil {
		return false
	}
	line := toldReady
	if err != nil {
		line = oneLine(err) + "\n"
	}
	_, werr := io.WriteString(p.pipe, line)
	p.pipe.Close()
	return werr == nil
}
