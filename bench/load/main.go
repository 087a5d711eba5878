package load

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Main is the program inside a namespace, if args (without the program's name) ask for it:
// the generator or the sink. It reports false when they do not. The result is one line of JSON.
func Main(args []string) (code int, mine bool) {
	if len(args) == 0 || args[0] != sendMode && args[0] != sinkMode {
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
	if err := f.Parse(args[1:]); err != nil {
		return 2, true
	}
	var result any
	var err error
	if args[0] == sendMode {
		result, err = send(c)
	} else {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		result, err = receive(ctx, c.to, c.run, nil)
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(result)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", args[0], err)
		return 1, true
	}
	return 0, true
}

const (
	sendMode = "udp-send"
	sinkMode = "udp-sink"
)
