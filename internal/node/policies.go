package node

import "time"

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

// reload reads the policy file again. It returns when the driver has taken or refused it.
func (s *static) reload() {
	if err := s.loadPolicies(func(f func()) { s.do(f) }); err != nil {
		s.cfg.Log.Error("policies not loaded, those from before hold", "error", err)
	}
}
