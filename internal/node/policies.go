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
// On the driver's goroutine, or before it runs.
func (s *static) loadPolicies() error {
	set, err := ReadPolicyFile(s.cfg.PolicyFile, s.start)
	if err != nil {
		return err
	}
	if err := s.machine.HandlePolicies(set, time.Now()); err != nil {
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
			s.do(func() {
				if err := s.loadPolicies(); err != nil {
					s.cfg.Log.Error("policies not loaded, those from before hold", "error", err)
				}
			})
		case <-ctx.Done():
			return
		}
	}
}
