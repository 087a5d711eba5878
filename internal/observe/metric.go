package observe

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"
)

// Kind says how a metric's value moves.
type Kind uint8

// The kinds.
const (
	// Counter: only up, from zero at the start of the process.
	Counter Kind = iota
	// Gauge: up and down.
	Gauge
	// Histogram: counts of observations by size, each only up.
	Histogram
)

// Metric is one number at one instant.
type Metric struct {
	// Name is the whole name. All metrics of one name have the same Kind, Help and names of labels.
	Name string
	// Help says in one sentence what is counted.
	Help string
	Kind Kind
	// Label and LabelValue tell metrics of one name apart; both empty for a name with one.
	Label, LabelValue string
	// More are further labels.
	More  []Pair
	Value uint64
	// Buckets are a histogram's, by ascending bound; Value is the sum of what was observed.
	Buckets []Bucket
}

// Pair is a label's name and value. An empty value is as good as no label.
type Pair struct{ Name, Value string }

// Bucket counts the observations that are at most Bound, and above the bound before.
type Bucket struct {
	// Bound of the last bucket may be infinite.
	Bound float64
	Count uint64
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
	for _, p := range m.More {
		labels, values = append(labels, p.Name), append(values, p.Value)
	}
	if m.Kind == Histogram {
		return m.histogram(prometheus.NewDesc(m.Name, m.Help, labels, nil), values)
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

// histogram exports counts as Prometheus wants them: each bucket with all below it.
func (m *Metric) histogram(desc *prometheus.Desc, values []string) prometheus.Metric {
	total, buckets := uint64(0), make(map[float64]uint64, len(m.Buckets))
	for _, b := range m.Buckets {
		total += b.Count
		if !math.IsInf(b.Bound, 1) {
			buckets[b.Bound] = total
		}
	}
	metric, err := prometheus.NewConstHistogram(desc, total, float64(m.Value), buckets, values...)
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err)
	}
	return metric
}
