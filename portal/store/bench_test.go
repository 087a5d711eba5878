package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkAuthorizations writes authorizations, each durable before the next of the same caller,
// from more and more callers: what they share is the sync.
func BenchmarkAuthorizations(b *testing.B) {
	for _, callers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s, put := authorizations(b)
			next := make(chan int)
			var all sync.WaitGroup
			for range callers {
				all.Go(func() {
					for i := range next {
						if err := put(i); err != nil {
							b.Error(err)
						}
					}
				})
			}
			b.ResetTimer()
			for i := range b.N {
				next <- i
			}
			close(next)
			all.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
			b.ReportMetric(float64(s.Stats().Writes)/float64(s.Stats().Groups), "writes/commit")
		})
	}
}

// BenchmarkSteadyRate writes 200 authorizations a second, evenly, as a busy portal does, and reports
// how long they take to be confirmed. Bare does nothing but overwrite and sync a page at the same
// rate: what is above its figures is ours, the rest is the disk's.
func BenchmarkSteadyRate(b *testing.B) {
	b.Run("store", func(b *testing.B) {
		s, put := authorizations(b)
		steady(b, put)
		b.ReportMetric(float64(s.Stats().Checkpoints), "checkpoints")
	})
	b.Run("bare", func(b *testing.B) {
		f := must(os.Create(filepath.Join(b.TempDir(), "page")))(b)
		defer f.Close()
		page := make([]byte, pageSize)
		steady(b, func(int) error {
			_, err := f.WriteAt(page, 0)
			return errors.Join(err, f.Sync())
		})
	})
}

// steady calls do 200 times a second and reports how long it takes.
func steady(b *testing.B, do func(i int) error) {
	took := make([]time.Duration, b.N)
	var all sync.WaitGroup
	tick := time.NewTicker(time.Second / 200)
	defer tick.Stop()
	b.ResetTimer()
	for i := range b.N {
		<-tick.C
		all.Go(func() {
			start := time.Now()
			if err := do(i); err != nil {
				b.Error(err)
			}
			took[i] = time.Since(start)
		})
	}
	all.Wait()
	slices.Sort(took)
	for name, share := range map[string]float64{"p50": 0.5, "p99": 0.99, "max": 1} {
		d := took[min(len(took)-1, int(share*float64(len(took))))]
		b.ReportMetric(float64(d.Microseconds())/1000, name+"-ms")
	}
}

// BenchmarkAuthenticate checks tokens.
func BenchmarkAuthenticate(b *testing.B) {
	s := open(b, Options{})
	_, text, err := s.CreateToken(b.Context(), TokenOrder{Account: "acme", Kind: GatewayToken, Subject: "site"}, noon)
	check(b, err)
	for b.Loop() {
		if _, err := s.Authenticate(b.Context(), text, noon, GatewayToken); err != nil {
			b.Fatal(err)
		}
	}
}

// authorizations returns a store with 1000 clients and 10 gateways, and a function that writes one
// authorization between two of them.
func authorizations(b *testing.B) (*Store, func(i int) error) {
	s := open(b, Options{ReserveLog: true})
	var clients, gateways [1000]Device
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			clients[i] = device(b, s, "acme", Client, fmt.Sprint(i))
			if i < 10 {
				gateways[i] = device(b, s, "acme", Gateway, fmt.Sprint(i))
			}
		})
	}
	all.Wait()
	return s, func(i int) error {
		id, err := s.newID()
		if err != nil {
			return err
		}
		a := authorization(clients[i%1000], gateways[i%10], id)
		a.Resource = fmt.Sprint("resource", i%17)
		return s.PutAuthorization(context.Background(), a)
	}
}

// BenchmarkFlowLogs stores batches of 1000 flow logs of 400 bytes; one operation is one batch.
func BenchmarkFlowLogs(b *testing.B) {
	s := open(b, Options{Limits: Limits{FlowLogs: 20_000}})
	n := 0
	for b.Loop() {
		logs := make([]FlowLog, 1000)
		for i := range logs {
			logs[i] = flow(n)
			logs[i].Body = make([]byte, 400)
			n++
		}
		if _, err := s.PutFlowLogs(b.Context(), "acme", logs); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
}
