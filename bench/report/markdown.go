package report

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// Subject is the gateway that the others are rivals of.
const Subject = "firelane"

// Markdown writes the run as a document. baseline, if not nil, is the recorded run whose
// figures the change column compares with; chart, if not empty, is the path of the picture.
func (r *Run) Markdown(w io.Writer, baseline *Run, chart string) error {
	d := &document{run: r, base: baseline}
	d.head(chart)
	for _, mtu := range r.mtus() {
		d.promises(fmt.Sprintf("MTU %d", mtu), fmt.Sprintf("%s divided by the rival, medians.", Subject), r.Floors(mtu, Subject))
	}
	d.promises("in memory", "Time per packet of the worst case, divided by that of the same packets without policy.", r.memoryFloors())
	for _, mtu := range r.mtus() {
		d.tcp(mtu)
		d.udp(mtu)
		d.ceilings(mtu)
		d.ping(mtu)
		d.ways(mtu)
	}
	d.failures()
	d.inMemory()
	_, err := io.WriteString(w, d.String())
	return err
}

type document struct {
	strings.Builder
	run, base *Run
}

func (d *document) line(format string, args ...any) {
	fmt.Fprintf(d, format+"\n", args...)
}

// table starts a table: the first column is text, the others are numbers.
func (d *document) table(columns ...string) {
	d.line("\n| %s |", strings.Join(columns, " | "))
	d.line("|---|%s", strings.Repeat("---:|", len(columns)-1))
}

func (d *document) row(cells ...string) {
	for i, c := range cells {
		cells[i] = strings.ReplaceAll(c, "|", `\|`)
	}
	d.line("| %s |", strings.Join(cells, " | "))
}

func (d *document) head(chart string) {
	r := d.run
	d.line("# Benchmark results\n")
	d.line("Measured %s on %s, %d cores, Linux %s, %s.", r.Date.UTC().Format("2006-01-02 15:04 UTC"), r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go)
	d.line("Client – gateway – server in three network namespaces of this machine; all of them share its cores.")
	d.line("Gateways alternate within each of %d repetitions of %d s per row; figures are medians, with the least and the greatest value in brackets.", r.Reps, r.Seconds)
	d.line("CPU is that of the gateway's process alone, or of its two processes where tayga translates. GB are 10⁹ bytes of payload delivered. The tunnel's other end is %s for TCP and ping and %s for UDP, whatever the gateway.", r.TCPClient, r.UDPClient)
	d.line("Saturating UDP senders hand over %d packets in one sendmmsg, paced ones 1; packets reach the gateway one by one. In sealed rows the generator is the tunnel's other end itself, and shares one processor with the sink: the gateway is what saturates.", r.Burst)
	if e := spread(r.each(func(s Sample) float64 { return 100 * s.Elsewhere })); e.N > 0 {
		d.line("Work outside the test (other processes, kernel threads, the hypervisor) took %.0f %% of the machine, median of all measurements, %.0f %% in the worst.", e.Median, e.Max)
	}
	if w := r.Wakeup; w.CrossCPU > 0 {
		d.line("Waking a thread on another core costs %.1f µs of CPU on this machine and takes %.1f µs; on the same core %.1f and %.1f µs.",
			micros(w.CrossCPU), micros(w.CrossLatency), micros(w.SameCPU), micros(w.SameLatency))
	}
	if r.InMemoryError != "" {
		d.line("\n**The in-memory benchmarks failed:** %s", r.InMemoryError)
	}
	d.line("\n| gateway | version |\n|---|---|")
	for _, g := range slices.Concat(r.Gateways, r.Translators) {
		d.row(g.Name, g.Version)
	}
	if chart != "" {
		d.line("\n![CPU per GB and packets per second by gateway](%s)", chart)
	}
	if d.base != nil {
		b := d.base
		d.line("\n*Change* is against the recorded run of %s on %s, Linux %s.", b.Date.UTC().Format("2006-01-02 15:04 UTC"), b.Machine.CPU, b.Machine.Kernel)
	}
}

// promises writes what is said of promises about one subject.
func (d *document) promises(about, note string, all []Floor) {
	if len(all) == 0 {
		return
	}
	d.line("\n## Promises, %s\n", about)
	d.line("%s", note)
	if slices.ContainsFunc(all, func(f Floor) bool { return !f.Met && f.Possible > 0 }) {
		d.line("What is *possible* is the most that any gateway could show on this machine, see what the client alone puts on the wire.")
	}
	d.table("promise", "rival", "measured", "promised", "aim", "")
	for _, f := range all {
		verdict := "met"
		if !f.Met {
			verdict = "**not met**"
			if f.Possible > 0 {
				verdict += fmt.Sprintf(", at most %.2f possible here", f.Possible)
			}
		}
		d.row(f.Name, orDash(f.Rival), number(f.Got, 2), f.Want, orDash(f.Aim), verdict)
	}
}

func (d *document) tcp(mtu int) {
	d.section(mtu, TCP, "TCP by iperf3",
		[]string{"CPU s/GB", "user", "system", "Mbit/s", "retransmits", "peak MiB", "UDP errors rcv/snd", "waits/MB"},
		func(row, gw string) []string {
			return []string{
				d.spread(Sample.Cost, row, mtu, gw, 2), d.median(Sample.UserCost, row, mtu, gw, 2), d.median(Sample.SystemCost, row, mtu, gw, 2),
				d.spread(Sample.Rate, row, mtu, gw, 0), d.median(retransmits, row, mtu, gw, 0), d.median(peak, row, mtu, gw, 1),
				d.udpErrors(row, mtu, gw), d.median(func(s Sample) float64 { return float64(s.Switches) / (float64(s.Bytes) / 1e6) }, row, mtu, gw, 1),
			}
		}, Sample.Cost)
}

func (d *document) udp(mtu int) {
	d.section(mtu, UDP, "UDP by our own generator",
		[]string{"CPU µs/packet", "user", "system", "packets/s", "offered/s", "loss %", "sink drops", "inversions", "jitter µs", "CPU s/GB", "peak MiB", "UDP errors rcv/snd"},
		func(row, gw string) []string {
			return []string{
				d.spread(Sample.Cost, row, mtu, gw, 2), d.median(Sample.UserCost, row, mtu, gw, 2), d.median(Sample.SystemCost, row, mtu, gw, 2),
				d.spread(Sample.Rate, row, mtu, gw, 0), d.median(offered, row, mtu, gw, 0), d.median(Sample.Loss, row, mtu, gw, 2),
				d.median(func(s Sample) float64 { return float64(s.SinkDrops) }, row, mtu, gw, 0),
				d.median(func(s Sample) float64 { return float64(s.Inversions) }, row, mtu, gw, 0),
				d.median(func(s Sample) float64 { return s.Jitter }, row, mtu, gw, 1),
				d.median(func(s Sample) float64 { return (s.User + s.System) / (float64(s.Bytes) / 1e9) }, row, mtu, gw, 2),
				d.median(peak, row, mtu, gw, 1), d.udpErrors(row, mtu, gw),
			}
		}, Sample.Cost)
}

func (d *document) ping(mtu int) {
	p99 := func(s Sample) float64 { return s.PingP99 }
	d.section(mtu, Ping, "Idle round trips", []string{"p50 µs", "p99 µs", "peak MiB"}, func(row, gw string) []string {
		return []string{
			d.spread(func(s Sample) float64 { return s.PingP50 }, row, mtu, gw, 0),
			d.spread(p99, row, mtu, gw, 0), d.median(peak, row, mtu, gw, 1),
		}
	}, p99)
}

// section writes the table of all rows of one kind, a line for each gateway. main is the figure
// whose ratio to the subject and change against the recorded run close the line.
func (d *document) section(mtu int, kind Kind, title string, columns []string, cells func(row, gw string) []string, main figure) {
	var started bool
	for _, row := range d.run.rows(mtu) {
		if row.Kind != kind {
			continue
		}
		if !started {
			d.line("\n## %s, MTU %d", title, mtu)
			d.table(append(append([]string{"row", "gateway"}, columns...), "firelane / it", "change")...)
			started = true
		}
		for _, g := range d.run.Gateways {
			line := append([]string{row.Title, g.Name}, cells(row.Name, g.Name)...)
			d.row(append(line, d.against(main, row.Name, mtu, g.Name), d.change(main, row.Name, mtu, g.Name))...)
		}
	}
}

// against is the subject's median divided by the gateway's.
func (d *document) against(f figure, row string, mtu int, gateway string) string {
	if gateway == Subject {
		return dash
	}
	return number(d.run.of(f, row, mtu, Subject).Median/d.run.of(f, row, mtu, gateway).Median, 2)
}

// change is how much the figure differs from the recorded run's, in percent.
func (d *document) change(f figure, row string, mtu int, gateway string) string {
	if d.base == nil {
		return dash
	}
	return percent(d.run.of(f, row, mtu, gateway).Median / d.base.of(f, row, mtu, gateway).Median)
}

// percent is a ratio as a change; without a ratio there was nothing to compare with.
func percent(ratio float64) string {
	if math.IsNaN(ratio) || math.IsInf(ratio, 0) {
		return "new"
	}
	return fmt.Sprintf("%+.0f %%", 100*(ratio-1))
}

func (d *document) spread(f figure, row string, mtu int, gateway string, digits int) string {
	s := d.run.of(f, row, mtu, gateway)
	if s.N == 0 {
		return "failed"
	}
	return d.format(s, digits)
}

// format writes a median, and the extremes of more than one value.
func (d *document) format(s Spread, digits int) string {
	if s.N < 2 {
		return number(s.Median, digits)
	}
	return fmt.Sprintf("%s [%s – %s]", number(s.Median, digits), number(s.Min, digits), number(s.Max, digits))
}

func (d *document) median(f figure, row string, mtu int, gateway string, digits int) string {
	return number(d.run.of(f, row, mtu, gateway).Median, digits)
}

func (d *document) udpErrors(row string, mtu int, gateway string) string {
	return d.median(func(s Sample) float64 { return float64(s.UDPErrors.Rcvbuf) }, row, mtu, gateway, 0) + "/" +
		d.median(func(s Sample) float64 { return float64(s.UDPErrors.Sndbuf) }, row, mtu, gateway, 0)
}

func (d *document) failures() {
	failed := d.run.Failures()
	if len(failed) == 0 {
		return
	}
	d.line("\n## Failed measurements")
	d.table("row", "gateway", "MTU", "repetition", "why")
	for _, s := range failed {
		d.row(s.Row.Title, s.Gateway, fmt.Sprint(s.MTU), fmt.Sprint(s.Rep), s.Error)
	}
}

func retransmits(s Sample) float64 { return float64(s.Retransmits) }
func peak(s Sample) float64        { return float64(s.PeakRSS) / (1 << 20) }
func offered(s Sample) float64     { return float64(s.SentPackets) / s.Seconds }

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// number formats v, or a dash for what could not be computed.
func number(v float64, digits int) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return dash
	}
	return fmt.Sprintf("%.*f", digits, v)
}

func orDash(s string) string {
	if s == "" {
		return dash
	}
	return s
}

const dash = "–"
