package node

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// CheckPolicyFile reports what is wrong with a policy file.
func CheckPolicyFile(path string) error {
	now := time.Now()
	set, err := ReadPolicyFile(path, now)
	if err != nil {
		return err
	}
	return set.Check(now)
}

// loadPolicies holds the peers to what the policy file says now; on an error to what it said before.
// apply runs a function on the driver's goroutine: only that part keeps the driver from its work.
func (s *static) loadPolicies(apply func(func())) error {
	set, err := ReadPolicyFile(s.cfg.PolicyFile, s.start)
	if err == nil {
		err = set.Check(time.Now())
	}
	if err != nil {
		return err
	}
	apply(func() { err = s.machine.HandlePolicies(set, time.Now()) })
	if err != nil {
		return err
	}
	s.cfg.Log.Info("policies loaded", "file", s.cfg.PolicyFile, "clients", len(set.Clients))
	return nil
}

// reloadOnSignal reads the policy file again at every SIGHUP until ctx is done.
func (s *static) reloadOnSignal(ctx context.Context) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGHUP)
	defer signal.Stop(asked)
	for {
		select {
		case <-asked:
			if err := s.loadPolicies(func(f func()) { s.do(f) }); err != nil {
				s.cfg.Log.Error("policies not loaded, those from before hold", "error", err)
			}
		case <-ctx.Done():
			return
		}
	}
}
