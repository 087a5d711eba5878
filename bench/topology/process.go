package topology

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Spec says what to start.
type Spec struct {
	Argv []string
	// Env is added to the owner's environment.
	Env []string
	// Stdin is nil for none.
	Stdin io.Reader
}

// Process is a process in a namespace and the leader of its own process group. It is the named
// program itself, without a wrapper: what is measured at PID is what was asked for.
type Process struct {
	cmd    *exec.Cmd
	stdout bytes.Buffer // read after the end only
	stderr tail
	done   chan struct{}
	err    error // set before done is closed
}

// Start starts a process on host h. The network stops it in Close, if nobody did before.
func (n *Network) Start(h Host, s Spec) (*Process, error) {
	p := &Process{cmd: exec.Command(s.Argv[0], s.Argv[1:]...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), s.Env...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = s.Stdin, &p.stdout, &p.stderr
	// A group of its own: a Ctrl-C at the terminal reaches the owner, who ends things in order.
	// The death signal is for an owner who cannot.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.cmd.WaitDelay = killAfter
	if err := n.inside(h, p.cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s on %v: %w", s.Argv[0], h, err)
	}
	n.running = append(slices.DeleteFunc(n.running, (*Process).ended), p)
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Run runs a program on host h to its end and returns what it wrote to its standard output.
// It is killed when ctx ends.
func (n *Network) Run(ctx context.Context, h Host, stdin io.Reader, argv ...string) ([]byte, error) {
	p, err := n.Start(h, Spec{Argv: argv, Stdin: stdin})
	if err != nil {
		return nil, err
	}
	return p.Output(ctx)
}

// Output waits for the end of the process and returns its standard output. Cancelling ctx kills it.
func (p *Process) Output(ctx context.Context) ([]byte, error) {
	select {
	case <-p.done:
	case <-ctx.Done():
		p.Stop()
		return nil, fmt.Errorf("%s: %w", p.name(), context.Cause(ctx))
	}
	if p.err != nil {
		return p.stdout.Bytes(), fmt.Errorf("%s: %w%s", p.name(), p.err, p.logged())
	}
	return p.stdout.Bytes(), nil
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended reports whether the process has ended, and how.
func (p *Process) Ended() (bool, error) {
	if !p.ended() {
		return false, nil
	}
	return true, errors.Join(p.err, errors.New("ended"+p.logged()))
}

func (p *Process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Terminate asks the process to end.
func (p *Process) Terminate() error { return p.cmd.Process.Signal(syscall.SIGTERM) }

// Stop ends the process and its whole group: asked first, killed after a second. It returns
// when the process is gone.
func (p *Process) Stop() {
	pgid := p.PID()
	if p.ended() {
		return
	}
	_ = syscall.Kill(-pgid, syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(killAfter):
		_ = syscall.Kill(-pgid, syscall.SIGKILL)
		<-p.done
	}
}

func (p *Process) name() string { return p.cmd.Args[0] }

// logged is the end of what the process wrote to its standard error, for error messages.
func (p *Process) logged() string {
	if s := strings.TrimSpace(p.stderr.String()); s != "" {
		return ": " + strings.ReplaceAll(s, "\n", " | ")
	}
	return ""
}

// tail keeps the last tailSize bytes written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

const (
	// tailSize is a screenful: a message and its surroundings, whatever the process logs.
	tailSize = 2048
	// killAfter is how long a process may take to end by itself.
	killAfter = time.Second
)
