package observe

import "github.com/prometheus/client_golang/prometheus"

// Kind says how a metric's value moves.
type Kind uint8

// The kinds.
const (
	// Counter: only up, from zero at the start of the process.
	Counter Kind = iota
	// Gauge: up and down.
	Gauge
)

// Metric is one number at one instant.
type Metric struct {
	// Name is the whole name. All metrics of one name have the same Kind, Help and Label.
	Name string
	// Help says in one sentence what is counted.
	Help string
	Kind Kind
	// Label and LabelValue tell metrics of one name apart; both empty for a name with one.
	Label, LabelValue string
	Value             uint64
}

// Source returns all metrics of a part, and false when the part has ended. Any goroutine may call
// it; the caller owns the result.
type Source func() (all []Metric, alive bool)

// collector hands a source's metrics to Prometheus' registry. It describes none in advance: the
// source alone knows them.
type collector struct{ source Source }

func (collector) Describe(chan<- *prometheus.Desc) {}

func (c collector) Collect(out chan<- prometheus.Metric) {
	all, _ := c.source()
	for i := range all {
		out <- all[i].export()
	}
}

func (m *Metric) export() prometheus.Metric {
	var labels, values []string
	if m.Label != "" {
		labels, values = []string{m.Label}, []string{m.LabelValue}
	}
	kind := prometheus.CounterValue
	if m.Kind == Gauge {
		kind = prometheus.GaugeValue
	}
	desc := prometheus.NewDesc(m.Name, m.Help, labels, nil)
	metric, err := prometheus.NewConstMetric(desc, kind, float64(m.Value), values...)
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err) // the scrape says what is wrong with it
	}
	return metric
}
