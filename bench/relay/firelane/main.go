// Command firelane runs this module's relay by itself, with one user, for the relay's benchmark.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/firelane/firelane/relay"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "firelane: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	f := flag.NewFlagSet("firelane", flag.ContinueOnError)
	public := f.String("public", "", "IPv4 address of relayed ports")
	port := f.Uint("port", 3478, "listening port")
	user := f.String("user", "", "name of the only user")
	password := f.String("password", "", "the user's password")
	delay := f.Duration("wakeup-delay", 500*time.Microsecond, "longest interval at which a busy worker looks for packets")
	if err := f.Parse(args); err != nil {
		return err
	}
	addr, err := netip.ParseAddr(*public)
	if err != nil {
		return fmt.Errorf("-public: %w", err)
	}
	users, err := relay.Users("", map[string]string{*user: *password})
	if err != nil {
		return err
	}
	limits := relay.DefaultLimits()
	// All clients of a benchmark share an address.
	limits.AllocationsPerSource, limits.BindingsPerSecond, limits.RefusalsPerSecond = 0, 0, 0
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return relay.Run(ctx, relay.Settings{
		Server: relay.Config{Public4: addr, Credentials: users, ManyPerUser: true, Limits: limits},
		Port:   uint16(*port), GSO: true, GRO: true, RaiseLimits: true, Pin: true, WakeupDelay: *delay,
	})
}
