package relay

import "time"

// HandleLost says that the sockets of an allocation, which were bound, cannot be served after all. It
// ends as if it had expired, for its client to notice with the next request: a relayed address
// that is never heard at is worse than none. An allocation that has ended since is none.
func (s *Server) HandleLost(id AllocationID, now time.Time) {
	s.advance(now)
	if l := s.leases[id]; l != nil && l.opening == nil {
		s.counters.count(EventLost)
		s.remove(l)
	}
}
