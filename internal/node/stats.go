package node

import (
	"reflect"

	"github.com/firelane/firelane/fastpath"
	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/internal/observe"
	"github.com/firelane/firelane/internal/udp"
	"github.com/firelane/firelane/protocol/wireguard"
)

// carried is what the sockets of data planes have counted.
type carried struct {
	sockets  udp.Stats
	noSocket uint64 // control's datagrams of a family that the host lacks
}

// add adds what p has counted. The sockets are p.sockets(), asked for before p was stopped.
func (c *carried) add(p *plane, sockets []*udp.Socket) {
	c.noSocket += p.noSocket
	for _, s := range sockets {
		sum(&c.sockets, s.Stats())
	}
}

// sockets returns all sockets of a plane that was not stopped, control's ways out included.
func (p *plane) sockets() (all []*udp.Socket) {
	for i := range p.group.Len() {
		v4, v6 := p.group.Worker(i)
		all = append(all, v4, v6)
	}
	all = append(all, p.out4, p.out6)
	present := all[:0]
	for _, s := range all {
		if s != nil { // a host without IPv6
			present = append(present, s)
		}
	}
	return present
}

// stats gathers every counter of the node. On the driver's goroutine, or after it has ended.
func (s *static) stats() (all metrics) {
	total := s.spent
	if s.running != nil {
		total.add(s.running, s.running.sockets())
	}
	var loops fastpath.Snapshot
	for _, w := range s.plane.crew {
		w.AddTo(&loops)
	}
	for v := fib.Pass + 1; v < fib.NumVerdicts; v++ {
		all.count("firelane_packets_dropped_total", "Packets that the packet loops dropped, by verdict.",
			"verdict", v.String(), loops.Verdicts[v])
	}
	for f, n := range loops.Figures {
		all.count("firelane_carried_total", "What the packet loops did, both directions together.",
			"figure", fastpath.Figure(f).String(), n)
	}
	all.fields("firelane_socket_total", "What the outer sockets counted, control's own included.", total.sockets)
	queues := s.plane.tunnel.Stats()
	for i := range s.cfg.Queues {
		sum(&queues, s.cfg.Tun.Queue(i).Stats())
	}
	all.fields("firelane_tunnel_total", "What the tunnel queues counted.", queues)
	all.fields("firelane_control_lost_total", "What control dropped.", s.machine.Losses())
	all.count("firelane_control_lost_total", "What control dropped.", "counter", "NoSocket", total.noSocket)
	for _, why := range wireguard.Drops() {
		all.count("firelane_handshake_dropped_total", "Handshake messages not acted upon, by reason.",
			"reason", why.String(), s.machine.Device().Dropped(why))
	}
	flows := s.machine.FlowStats()
	all.fields("firelane_flows_total", "What the clients' NAT tables counted.", flows.FlowCounts)
	all.gauge("firelane_flows", "Live flows of all clients' NAT tables.", flows.Live)
	all.gauge("firelane_flows_remembered", "Outside tuples of flows that have ended, by which late packets are known.", flows.Remembered)
	pool := s.plane.pool.Stats()
	all.count("firelane_pool_exhausted_total", "Times the packet pool had no slab to give.", "", "", pool.Exhausted)
	all.gauge("firelane_pool_slabs", "Slabs of the packet pool.", pool.Slabs)
	all.gauge("firelane_pool_slabs_used", "Slabs of the packet pool that were ever used: those that take memory.", pool.Used)
	size := s.machine.Size()
	all.gauge("firelane_peers", "Configured peers.", size.Peers)
	all.gauge("firelane_sessions", "Live sessions of all peers.", size.Sessions)
	all.gauge("firelane_packets_kept", "Packets that wait for a session.", size.Kept)
	all.gauge("firelane_jobs_waiting", "Handshake jobs that wait for a processor.", len(s.backlog))
	return all
}

// metrics are gathered numbers.
type metrics []observe.Metric

func (m *metrics) count(name, help, label, value string, n uint64) {
	*m = append(*m, observe.Metric{Name: name, Help: help, Label: label, LabelValue: value, Value: n})
}

func (m *metrics) gauge(name, help string, n int) {
	*m = append(*m, observe.Metric{Name: name, Help: help, Kind: observe.Gauge, Value: uint64(n)})
}

// fields adds a metric for each field of a struct of uint64 counters, so that none is left out.
func (m *metrics) fields(name, help string, counters any) {
	v := reflect.ValueOf(counters)
	for i := range v.NumField() {
		m.count(name, help, "counter", v.Type().Field(i).Name, v.Field(i).Uint())
	}
}

// sum adds a struct of uint64 counters to another, field by field.
func sum[T any](total *T, n T) {
	to, from := reflect.ValueOf(total).Elem(), reflect.ValueOf(n)
	for i := range to.NumField() {
		to.Field(i).SetUint(to.Field(i).Uint() + from.Field(i).Uint())
	}
}

// source is stats for other goroutines.
func (s *static) source() (all []observe.Metric, alive bool) {
	alive = s.do(func() { all = s.stats() })
	return all, alive
}

// report logs the counters that are not zero.
func (s *static) report(why string) {
	var args []any
	for _, m := range s.stats() {
		if m.Value == 0 {
			continue
		}
		key := m.Name
		if m.Label != "" {
			key += "." + m.LabelValue
		}
		args = append(args, key, m.Value)
	}
	s.cfg.Log.Info(why, args...)
}
