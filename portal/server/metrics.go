package server

import (
	"cmp"
	"math"
	"slices"

	"github.com/firelane/firelane/internal/observe"
	"github.com/firelane/firelane/portal/store"
)

// Metrics returns every number of the portal; it is an observe.Source.
func (s *Server) Metrics() ([]observe.Metric, bool) {
	var m metrics
	p := s.driver.stats()
	m.gauge("firelane_portal_clients", "Clients that are connected.", p.Clients)
	m.gauge("firelane_portal_gateways", "Gateways that are connected.", p.Gateways)
	m.gauge("firelane_portal_relays", "Relays that are connected.", p.Relays)
	m.gauge("firelane_portal_authorizations", "Authorizations in force.", p.Authorizations)
	m.gauge("firelane_portal_pending", "Requests for an authorization that wait for an answer.", p.Pending)
	m.counter("firelane_portal_connects_total", "Channels that have joined.", "", "", p.Connects)
	m.counter("firelane_portal_duplicates_total", "Channels that replaced an older one of the same device.", "", "", p.Duplicates)
	m.counter("firelane_portal_requests_total", "Requests for an authorization.", "", "", p.Requests)
	m.counter("firelane_portal_authorized_total", "Requests that were granted.", "", "", p.Authorized)
	first := len(m)
	for reason, n := range p.Refused {
		m.counter("firelane_portal_refused_total", "Requests that were refused.", "reason", string(reason), n)
	}
	slices.SortFunc(m[first:], func(a, b observe.Metric) int { return cmp.Compare(a.LabelValue, b.LabelValue) })
	m.counter("firelane_portal_timed_out_total", "Requests refused because a gateway, a device or the store did not answer.", "", "", p.TimedOut)
	m.counter("firelane_portal_revoked_total", "Authorizations taken away before their end.", "", "", p.Revoked)
	m.counter("firelane_portal_expired_total", "Authorizations that ended.", "", "", p.Expired)
	m.counter("firelane_portal_candidates_dropped_total", "Candidates without a pair to go to, or beyond what a device may pass on or be passed.", "", "", p.CandidatesDropped)
	m.counter("firelane_portal_writes_failed_total", "Writes that the store could not do.", "", "", p.WritesFailed)
	m.counter("firelane_portal_full_total", "Wishes that met a bound.", "", "", p.Full)
	m.counter("firelane_portal_late_answers_total", "Answers of gateways that nobody waited for.", "", "", p.LateAnswers)
	m.counter("firelane_portal_upgrades_refused_total", "Websocket upgrades that were refused.", "", "", s.refused.Load())
	for kind, n := range map[string]*shares{"websocket": s.sockets, "connection": s.conns} {
		m.counter("firelane_portal_address_full_total", "Websockets and TCP connections refused because their address had its share.", "kind", kind, n.refused.Load())
	}
	s.channelMetrics(&m)
	s.storeMetrics(&m)
	return m, !s.ending.Load()
}

func (s *Server) channelMetrics(m *metrics) {
	c := s.channels.Stats()
	m.gauge("firelane_portal_channels", "Websockets that are open.", int(c.Links))
	for _, n := range []struct {
		what  string
		value uint64
	}{
		{"Accepted", c.Accepted}, {"Busy", c.Busy}, {"Slow", c.Slow}, {"Malformed", c.Malformed}, {"Unknown", c.Unknown},
		{"Received", c.Received}, {"Sent", c.Sent}, {"Throttled", c.Throttled}, {"Dropped", c.Dropped},
	} {
		m.counter("firelane_portal_channel_total", "What happened on websockets.", "counter", n.what, n.value)
	}
}

func (s *Server) storeMetrics(m *metrics) {
	st := s.store.Stats()
	m.gauge("firelane_portal_store_waiting", "Writes that wait for the disk.", st.Waiting)
	lost := 0
	if st.Lost {
		lost = 1
	}
	m.gauge("firelane_portal_store_lost", "1 if the database's log could not be synced: nothing is written until the portal is started anew.", lost)
	m.gauge("firelane_portal_store_log_bytes", "Size of the file of the database's log.", int(st.LogBytes))
	for _, n := range []struct {
		what  string
		value uint64
	}{
		{"Writes", st.Writes}, {"Failed", st.Failed}, {"Withdrawn", st.Withdrawn}, {"Refused", st.Refused},
		{"Groups", st.Groups}, {"Checkpoints", st.Checkpoints},
	} {
		m.counter("firelane_portal_store_total", "What the database has done.", "counter", n.what, n.value)
	}
	m.times("firelane_portal_store_write_microseconds", "Time from handing a write to the store until it was on the disk, or refused.", &st.Latency)
	m.times("firelane_portal_store_commit_microseconds", "Time of a transaction, syncing included.", &st.Commit)
	sizes := observe.Metric{
		Name: "firelane_portal_store_group_writes", Help: "Writes that shared a transaction.", Kind: observe.Histogram, Value: st.Writes + st.Failed,
	}
	for i, n := range st.Sizes {
		sizes.Buckets = append(sizes.Buckets, observe.Bucket{Bound: float64(int(1) << i), Count: n})
	}
	*m = append(*m, sizes)
}

type metrics []observe.Metric

func (m *metrics) counter(name, help, label, labelValue string, n uint64) {
	*m = append(*m, observe.Metric{Name: name, Help: help, Label: label, LabelValue: labelValue, Value: n})
}

func (m *metrics) times(name, help string, h *store.Histogram) {
	one := observe.Metric{Name: name, Help: help, Kind: observe.Histogram, Value: uint64(h.Sum.Microseconds())}
	for i, b := range h.Bounds() {
		one.Buckets = append(one.Buckets, observe.Bucket{Bound: float64(b.Microseconds()), Count: h.Counts[i]})
	}
	one.Buckets = append(one.Buckets, observe.Bucket{Bound: math.Inf(1), Count: h.Counts[len(h.Counts)-1]})
	*m = append(*m, one)
}

func (m *metrics) gauge(name, help string, n int) {
	*m = append(*m, observe.Metric{Name: name, Help: help, Kind: observe.Gauge, Value: uint64(n)})
}
