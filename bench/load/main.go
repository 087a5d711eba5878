package load

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
)

// Main is the program inside a namespace, if args (without the program's name) ask for it: a
// generator or a sink. It reports false when they do not. The result is one line of JSON.
func Main(args []string) (code int, mine bool) {
	if len(args) == 0 || !slices.Contains([]string{sendMode, sinkMode, sealMode, openMode}, args[0]) {
		return 0, false
	}
	var c sendConfig
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	f.StringVar(&c.to, "addr", "", "address and port to send to, or to listen at")
	f.Uint64Var(&c.run, "run", 0, "number of the run")
	f.IntVar(&c.payload, "payload", 0, "payload bytes")
	f.IntVar(&c.rate, "rate", 0, "packets per second, 0 to saturate")
	f.IntVar(&c.burst, "burst", 1, "packets per system call when saturating")
	f.DurationVar(&c.length, "length", 0, "how long to send")
	f.StringVar(&c.peer.local, "local", "", "address and port of the tunnel's own end")
	f.StringVar(&c.peer.gateway, "gateway", "", "address and port of the gateway")
	f.StringVar(&c.peer.gatewayKey, "gateway-key", "", "the gateway's public key")
	f.StringVar(&c.peer.inner, "inner", "", "own address in the tunnel")
	f.BoolVar(&c.trains, "trains", false, "leave it to the kernel to segment bursts")
	f.IntVar(&c.cpu, "cpu", -1, "the processor to run on, -1 for any")
	if err := f.Parse(args[1:]); err != nil {
		return 2, true
	}
	result, err := c.main(args[0])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(result)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", args[0], err)
		return 1, true
	}
	return 0, true
}

// main does what the mode says. A sink's end is a signal.
func (c *sendConfig) main(mode string) (any, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if c.cpu >= 0 {
		if err := runOn(c.cpu); err != nil {
			return nil, err
		}
	}
	if mode == sealMode || mode == openMode {
		if err := c.peer.readKey(os.Stdin); err != nil {
			return nil, err
		}
	}
	if mode == sendMode || mode == sealMode {
		stop() // a signal ends it at once
		work := send
		if mode == sealMode {
			work = seal
		}
		s, err := work(*c)
		s.CPU = cpuSeconds()
		return s, err
	}
	var a Arrivals
	var err error
	if mode == openMode {
		a, err = open(ctx, *c)
	} else {
		a, err = receive(ctx, c.to, c.run, nil)
	}
	a.CPU = cpuSeconds()
	return a, err
}

const (
	sendMode = "udp-send"
	sinkMode = "udp-sink"
	sealMode = "udp-seal"
	openMode = "udp-open"
)
