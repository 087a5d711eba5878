package relay

import (
	"reflect"
	"strings"

	"github.com/firelane/firelane/internal/observe"
	"github.com/firelane/firelane/internal/udp"
)

// Metrics returns every number of the relay for Prometheus. Names are those of OpenTelemetry as
// Prometheus writes them: relay.active_allocations is relay_active_allocations, and counters end
// in _total. Any goroutine.
func (r *Relay) Metrics() (all []observe.Metric) {
	all = figures(r.Counters().Figures())
	traffic := r.Traffic()
	for d, n := range traffic.Drops {
		all = append(all, observe.Metric{Name: "relay_dropped_total", Help: "Datagrams that the workers did not carry, by reason.",
			Label: "reason", LabelValue: Drop(d).String(), Value: n})
	}
	for m, n := range traffic.Measures {
		all = append(all, observe.Metric{Name: "relay_carried_total", Help: "What the workers did; of datagrams relayed, those that the kernel sent.",
			Label: "figure", LabelValue: Measure(m).String(), Value: n})
	}
	all = append(all, sizeMetric(&traffic))
	listening := make(map[string]uint64)
	for _, s := range r.Listening() {
		addFields(listening, s)
	}
	for _, s := range []*udp.Socket{r.out4, r.out6} {
		if s != nil {
			addFields(listening, s.Stats())
		}
	}
	all = appendFields(all, "relay_listening_socket_total", "What the sockets of the listening port counted, control's own included.", listening)
	all = append(all, observe.KernelUDP("relay_kernel_udp_total")...)
	return append(all, r.limits.metrics()...)
}

// figures turns the server's numbers into metrics.
func figures(of []Figure) (all []observe.Metric) {
	for _, f := range of {
		m := observe.Metric{Name: strings.ReplaceAll(f.Name, ".", "_"), Value: f.Value}
		switch f.Name {
		case "relay.active_allocations":
			m.Kind, m.Help = observe.Gauge, "Allocations that exist."
		case "relay.bound_channels":
			m.Kind, m.Help = observe.Gauge, "Channels that are bound."
		case "relay.responses":
			m.Name, m.Help = m.Name+"_total", "Answers to requests."
			m.More = []observe.Pair{{Name: "message_type", Value: f.MessageType}, {Name: "response_class", Value: f.ResponseClass},
				{Name: "error_code", Value: f.ErrorCode}}
		default:
			m.Name, m.Help = m.Name+"_total", "How often this has happened to requests and allocations."
		}
		all = append(all, m)
	}
	return all
}

// metrics shows the bounds in force, to be drawn beside what they bound.
func (l *Limits) metrics() (all []observe.Metric) {
	for _, b := range []struct {
		name  string
		value int64
	}{
		{"allocations", int64(l.Allocations)},
		{"allocations_per_source", int64(l.AllocationsPerSource)},
		{"channels", int64(l.Channels)},
		{"channels_per_allocation", int64(l.ChannelsPerAllocation)},
		{"bytes_per_second", l.BytesPerSecond},
		{"bindings_per_second", int64(l.BindingsPerSecond)},
		{"refusals_per_second", int64(l.RefusalsPerSecond)},
		{"nonces", int64(l.Nonces)},
	} {
		all = append(all, observe.Metric{Name: "relay_limit", Help: "The bounds in force; 0 for none.", Kind: observe.Gauge,
			Label: "limit", LabelValue: b.name, Value: uint64(b.value)})
	}
	return all
}

// Metrics returns the numbers of the way to the portal. Any goroutine.
func (p *Portal) Metrics() []observe.Metric {
	joined := observe.Metric{Name: "relay_portal_joined", Help: "1 while the portal knows the relay.", Kind: observe.Gauge}
	if p.Joined() {
		joined.Value = 1
	}
	counts, stats := make(map[string]uint64), p.Stats()
	addFields(counts, stats.SessionStats)
	addFields(counts, struct{ Sent, Received uint64 }{stats.Sent, stats.Received})
	return append(appendFields(nil, "relay_portal_total", "What the channel to the portal counted.", counts), joined)
}

// addFields adds each field of a struct of uint64 counters to what to has under its name, so that
// none is forgotten.
func addFields(to map[string]uint64, counters any) {
	v := reflect.ValueOf(counters)
	for i := range v.NumField() {
		to[v.Type().Field(i).Name] += v.Field(i).Uint()
	}
}

func appendFields(all []observe.Metric, name, help string, counters map[string]uint64) []observe.Metric {
	for k, n := range counters {
		all = append(all, observe.Metric{Name: name, Help: help, Label: "counter", LabelValue: k, Value: n})
	}
	return all
}
