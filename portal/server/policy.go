package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firelane/firelane/portal"
	"github.com/firelane/firelane/portal/config"
)

// policyFile is the policy file as this process knows it.
type policyFile struct {
	// file is the one the machine has.
	file atomic.Pointer[config.File]

	// mu is held while a file is looked at.
	mu sync.Mutex
	// seen is what the file looked like when it was last read, text what was read: good or not.
	seen stamp
	text []byte
	// looked is what it looked like at the last look.
	looked stamp
	// unkept is a file that the machine has but that is not kept as the one in force yet.
	unkept []byte
	// unforgotten says that providers have gone, or may have before the start, whose claims are to
	// be forgotten before the file is kept.
	unforgotten bool
}

// stamp tells whether a file may have changed.
type stamp struct {
	modified time.Time
	size     int64
}

// policyEvery is how often the file is looked at. An edit should be felt within a second, and is read
// when it looks the same for the second time: who writes a file in place may not have finished.
const policyEvery = 250 * time.Millisecond

// keepTime bounds how long one look waits for what an edit has revoked to be on the disk.
const keepTime = 5 * time.Second

// readPolicy reads and parses a policy file. What is wrong with its content is a config.Problems.
func readPolicy(path string) ([]byte, *config.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read policy file: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, config.MaxSize+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read policy file: %w", err)
	}
	file, err := config.Parse(path, text)
	return text, file, err
}

// inForce returns the policy file that was in force when the last process ended. If that is not known,
// because there was none or a version knew another language, it is the present file.
func (s *Server) inForce(file *config.File) (_ *config.File, known bool, err error) {
	_, kept, err := readPolicy(InForcePath(s.options.Data))
	var problems config.Problems
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return file, false, nil
	case errors.As(err, &problems):
		s.log.Warn("the policy file that was in force is of no use", "problem", problems[0].String())
		return file, false, nil
	}
	return kept, true, err
}

// keepPolicy makes text the file in force for the next process, all of it or nothing.
func keepPolicy(data string, text []byte) error {
	path := InForcePath(data)
	part, err := os.CreateTemp(data, inForceName+"-*")
	if err != nil {
		return fmt.Errorf("keep policy file: %w", err)
	}
	defer os.Remove(part.Name()) // fails once it has its name
	_, err = part.Write(text)
	err = errors.Join(err, part.Sync(), part.Close())
	if err == nil {
		err = os.Rename(part.Name(), path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("keep policy file: %w", err)
	}
	return nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Reload looks at the policy file now, whether it seems changed or not.
func (s *Server) Reload() error {
	s.policy.mu.Lock()
	defer s.policy.mu.Unlock()
	return s.reload()
}

// reload reads the file and puts it in force if it is good and differs; the lock is held.
func (s *Server) reload() error {
	text, file, err := readPolicy(s.options.Config)
	return s.adopt(text, file, err)
}

// adopt takes what has been read, or why it could not be; the lock is held.
func (s *Server) adopt(text []byte, file *config.File, err error) error {
	p := &s.policy
	if bytes.Equal(text, p.text) && text != nil {
		return nil // nothing new, good or bad
	}
	p.text = text
	var problems config.Problems
	switch {
	case errors.As(err, &problems):
		for _, problem := range problems {
			s.log.Error("policy file is not good; the one in force stays", "problem", problem.String())
		}
		return err
	case err != nil:
		s.log.Error("policy file cannot be read; the one in force stays", "error", err)
		return err
	}
	s.apply(text, file)
	return nil
}

// install is apply at the start. The file is kept at once if nothing has to be revoked before.
func (s *Server) install(ctx context.Context, text []byte, file *config.File) {
	s.policy.mu.Lock()
	defer s.policy.mu.Unlock()
	s.policy.text, s.policy.unforgotten = text, true
	if seen, err := look(s.options.Config); err == nil {
		s.policy.seen = seen
	}
	s.apply(text, file)
	s.keep(ctx)
}

// apply gives a good file to the machine; the lock is held.
func (s *Server) apply(text []byte, file *config.File) {
	changes := config.Diff(s.policy.file.Load(), file)
	for i := range changes {
		gone := changes[i].Kind == config.KindProvider && changes[i].Action == config.Removed
		s.policy.unforgotten = s.policy.unforgotten || gone
	}
	if len(changes) > 0 {
		s.driver.do(func(m *portal.Portal, now time.Time) { m.HandleConfig(file, now) })
		s.log.Info("policy file is in force", "changes", len(changes))
		for i := range changes {
			s.log.Debug("policy changed", "change", changes[i].String())
		}
	}
	s.policy.file.Store(file)
	s.policy.unkept = text
}

// keep keeps the file in force for the next process once what it has revoked is on the disk; the
// lock is held.
func (s *Server) keep(ctx context.Context) {
	p := &s.policy
	if p.unkept == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, keepTime)
	defer cancel()
	if !s.driver.settled(ctx) {
		return // next time
	}
	if p.unforgotten {
		if err := s.forgetProviders(ctx); err != nil {
			s.log.Error("cannot forget the claims of providers that are gone", "error", err)
			return
		}
		p.unforgotten = false
	}
	if err := keepPolicy(s.options.Data, p.unkept); err != nil {
		s.log.Error("cannot keep the policy file in force", "error", err)
		return
	}
	p.unkept = nil
}

// watchPolicy reads the file when it has changed.
func (s *Server) watchPolicy(ctx context.Context) {
	tick := time.NewTicker(policyEvery)
	defer tick.Stop()
	for {
		s.lookAtPolicy(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Server) lookAtPolicy(ctx context.Context) {
	p := &s.policy
	p.mu.Lock()
	defer p.mu.Unlock()
	if seen, err := look(s.options.Config); err == nil { // a file that is away for a moment is being replaced
		if seen == p.looked && seen != p.seen {
			s.readStable(seen)
		}
		p.looked = seen
	}
	s.keep(ctx)
}

// readStable reads the file, unless it changes meanwhile; the lock is held.
func (s *Server) readStable(seen stamp) {
	text, file, err := readPolicy(s.options.Config)
	if after, gone := look(s.options.Config); gone != nil || after != seen {
		return // at another look
	}
	s.policy.seen = seen
	_ = s.adopt(text, file, err) // logged
}

func look(path string) (stamp, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return stamp{}, err
	}
	return stamp{fi.ModTime(), fi.Size()}, nil
}

// account returns an account of the file in force, or nil.
func (s *Server) account(id string) *config.Account {
	return findAccount(s.policy.file.Load(), func(a *config.Account) bool { return a.ID == id })
}

// accountOf returns the account with a slug, or nil.
func (s *Server) accountOf(slug string) *config.Account {
	return findAccount(s.policy.file.Load(), func(a *config.Account) bool { return a.Slug == slug })
}

func findAccount(f *config.File, fits func(*config.Account) bool) *config.Account {
	for i := range f.Accounts {
		if fits(&f.Accounts[i]) {
			return &f.Accounts[i]
		}
	}
	return nil
}
