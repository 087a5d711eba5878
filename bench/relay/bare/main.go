// Command bare is no relay: it carries datagrams between clients and peers as one would and does
// nothing else. It believes everybody, checks nothing, limits nothing, knows one channel for each
// client, IPv4 and no trains. What it takes is what the kernel takes to receive a datagram on one
// socket and send it from another: with one call for up to 64 that share a socket, one call for each
// that goes to a peer, and a pause that is the same whatever comes. It is a yardstick for relays on
// sockets and datagrams that come singly, each of another allocation than the one before. It is no
// limit: a longer pause, or one that fits what comes, takes less.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "bare: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	f := flag.NewFlagSet("bare", flag.ContinueOnError)
	public := f.String("public", "", "IPv4 address of relayed ports")
	port := f.Uint("port", 3478, "listening port")
	pause := f.Duration("pause", time.Millisecond, "how long to let datagrams gather, while they come")
	if err := f.Parse(args); err != nil {
		return err
	}
	addr, err := netip.ParseAddr(*public)
	if err != nil {
		return fmt.Errorf("-public: %w", err)
	}
	failed := make(chan error, 1)
	for range runtime.NumCPU() {
		c, err := newCarrier(addr, uint16(*port), *pause)
		if err != nil {
			return err
		}
		go func() {
			runtime.LockOSThread()
			failed <- c.run()
		}()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	select {
	case err = <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}
