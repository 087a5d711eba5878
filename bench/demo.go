package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/firelane/firelane/bench/report"
	"github.com/firelane/firelane/bench/topology"
)

// demoGateways are the two that the demonstration sets side by side.
func demoGateways() []contender {
	return slices.DeleteFunc(slices.Clone(contenders), func(c contender) bool { return c.name == tailscale })
}

// showDemo shows one stream up and down through each gateway in turn, with the same client.
func (o *options) showDemo(ctx context.Context, built map[string]topology.Command) error {
	const mtu = 1280
	p := &plan{
		gateways:  []topology.Command{built[firelane], built[wireguardGo]},
		tcpClient: built[o.tcpClient.name],
		rows:      matching(regexp.MustCompile(`^tcp-(up|down)-1$`)),
		mtus:      []int{mtu}, reps: 1, knobs: knobs{length: demoLength}, progress: os.Stderr,
	}
	fmt.Printf("client (%s) ── WireGuard, MTU %d ── gateway ── server, in three network namespaces\n", o.tcpClient.name, mtu)
	r := &report.Run{Samples: p.run(ctx)}
	if ctx.Err() != nil {
		return errors.New("interrupted; everything is cleaned up")
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\ngateway\trow\tMbit/s\tgateway CPU s/GB\tuser\tsystem\tpeak MiB\t")
	for _, s := range r.Samples {
		if s.Error == "" {
			fmt.Fprintf(w, "%s\t%s\t%.0f\t%.2f\t%.2f\t%.2f\t%.1f\t\n", s.Gateway, s.Row.Title,
				s.Rate(), s.Cost(), s.UserCost(), s.SystemCost(), float64(s.PeakRSS)/(1<<20))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if failed := r.Failures(); len(failed) > 0 {
		return fmt.Errorf("%s with %s as the gateway: %s", failed[0].Row.Title, failed[0].Gateway, failed[0].Error)
	}
	return nil
}

const demoLength = 5 * time.Second
