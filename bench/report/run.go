package report

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// Run is everything one invocation measured, and where.
type Run struct {
	Machine Machine
	Date    time.Time
	// Seconds is how long each measurement ran; Reps how often.
	Seconds, Reps int
	// Burst is how many packets a saturating UDP sender handed over in one system call.
	Burst int
	// Gateways in the order they alternated; the first one's ratios to the others are reported.
	Gateways []Version
	// Translators are gateways of which a translator in a process of its own is a part. They have
	// rows by way of NAT64 only.
	Translators []Version `json:",omitempty"`
	// TCPClient and UDPClient are what the tunnel's other end was, for every gateway.
	TCPClient, UDPClient string
	// Wakeup is what waking a thread costs on this machine.
	Wakeup Wakeup
	// InMemory are the results of the Go benchmarks.
	InMemory []Benchmark
	// InMemoryError says why there are none, if they failed.
	InMemoryError string `json:",omitempty"`
	Samples       []Sample
}

// Machine is where a run was made.
type Machine struct {
	CPU    string
	Cores  int
	Kernel string
	Go     string
}

// Wakeup is what one wake-up of a sleeping thread costs in CPU time and takes until it runs, on
// the same core and on another; zero when there is no other.
type Wakeup struct {
	SameCPU, SameLatency, CrossCPU, CrossLatency time.Duration
}

// Version names a gateway and what exactly it was built from.
type Version struct{ Name, Version string }

// Kind says what a row measures, and so which figures it has.
type Kind string

// The kinds of row.
const (
	TCP  Kind = "tcp"
	UDP  Kind = "udp"
	Ping Kind = "ping"
	// Ceiling is what the client alone puts on the wire, whatever the gateway: its Packets are
	// WireGuard data messages, one for each packet.
	Ceiling Kind = "ceiling"
)

// CeilingPrefix and the name of a row of UDP make the name of the Ceiling row for the same load.
const CeilingPrefix = "client-"

// Way says how packets get from the client to the server in rows that compare ways; all others
// are forwarded as they are, over IPv4. The client's family is the one before a translation.
type Way string

// The ways.
const (
	Plain4 Way = "plain4" // forwarded, over IPv4
	Plain6 Way = "plain6" // forwarded, over IPv6
	CIDR   Way = "cidr"   // a grant of the network with a filter, over IPv4
	NAT    Way = "nat"    // a name's proxy address, within IPv4
	NAT64  Way = "nat64"  // an IPv6 address for an IPv4 server
	NAT46  Way = "nat46"  // an IPv4 address for an IPv6 server
)

// Row identifies a row.
type Row struct {
	// Name is short and unique, Title readable.
	Name, Title string
	Kind        Kind
	// Down: from server to client.
	Down bool
	// Paced rows have a fixed load; the others saturate.
	Paced bool
	// Singles: the tunnel's other end sends its datagrams one by one, as they arrive from a
	// network without segmentation offload, and not in trains.
	Singles bool `json:",omitempty"`
	// Sealed: the generator itself is the tunnel's other end, so that the gateway is the only
	// tunnel at work.
	Sealed bool `json:",omitempty"`
	// Way is empty for a row that compares the run's gateways.
	Way Way `json:",omitempty"`
}

// Sample is one measurement of one row. Fields that its kind lacks are zero.
type Sample struct {
	Row     Row
	MTU     int
	Gateway string
	Rep     int
	// Error says why the measurement failed; then nothing below is set.
	Error string `json:",omitempty"`

	// User and System are CPU seconds of the gateway's process; Translator are those of one
	// beside it.
	User, System float64
	Translator   float64 `json:",omitempty"`
	// Seconds is the length of the transfer as its receiver saw it.
	Seconds float64
	// Bytes (payload) and Packets (UDP) delivered.
	Bytes, Packets uint64
	// SentPackets is what a UDP sender sent, SinkDrops what its sink's own socket lost.
	SentPackets, SinkDrops uint64
	Retransmits            uint64
	Inversions             uint64
	// Jitter, PingP50 and PingP99 are in microseconds.
	Jitter, PingP50, PingP99 float64
	// PeakRSS is the gateway's peak resident memory in this row, in bytes.
	PeakRSS uint64
	// SenderCPU and SinkCPU are CPU seconds of the UDP generator and sink: what is not the
	// gateway's limit is theirs.
	SenderCPU, SinkCPU float64 `json:",omitempty"`
	// UDPErrors are the kernel's UDP receive, receive-buffer and send-buffer errors in the
	// gateway's namespace.
	UDPErrors UDPErrors
	// Switches are the gateway's voluntary context switches.
	Switches uint64
	// Elsewhere is the share of the machine, 0 to 1, that went to processes outside the test and
	// to the hypervisor: a sample with much of it is not worth much.
	Elsewhere float64
}

// UDPErrors are the kernel's counters of UDP datagrams lost at sockets.
type UDPErrors struct{ In, Rcvbuf, Sndbuf uint64 }

// Cost is the CPU of the gateway, a translator's included, for the row's unit of work: seconds per GB (10⁹ bytes) of payload
// delivered, for UDP rows microseconds per packet delivered, and 0 for pings.
func (s Sample) Cost() float64 { return s.per(s.User + s.System + s.Translator) }

// UserCost is the part of Cost that the process spent in user mode.
func (s Sample) UserCost() float64 { return s.per(s.User) }

// SystemCost is the kernel's part of Cost.
func (s Sample) SystemCost() float64 { return s.per(s.System) }

// TranslatorCost is the part of Cost that went to the translator's process.
func (s Sample) TranslatorCost() float64 { return s.per(s.Translator) }

func (s Sample) per(cpu float64) float64 {
	switch s.Row.Kind {
	case TCP:
		return cpu / (float64(s.Bytes) / 1e9)
	case UDP:
		return cpu * 1e6 / float64(s.Packets)
	}
	return 0
}

// Rate is what was delivered: Mbit/s of payload for TCP, packets per second for UDP, and for a
// ceiling what was put on the wire.
func (s Sample) Rate() float64 {
	switch s.Row.Kind {
	case TCP:
		return float64(s.Bytes) * 8 / 1e6 / s.Seconds
	case UDP, Ceiling:
		return float64(s.Packets) / s.Seconds
	}
	return 0
}

// Loss is the percentage of UDP packets that were sent and not delivered.
func (s Sample) Loss() float64 {
	if s.SentPackets == 0 {
		return 0
	}
	return 100 * (1 - float64(s.Packets)/float64(s.SentPackets))
}

// Load reads a Run that Save wrote.
func Load(path string) (*Run, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read recorded run: %w", err)
	}
	r := new(Run)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("read recorded run %s: %w", path, err)
	}
	return r, nil
}

// Save writes the run as JSON.
func (r *Run) Save(path string) error {
	b, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return fmt.Errorf("save run: %w", err)
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}
