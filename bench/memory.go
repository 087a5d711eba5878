package main

import (
	"bytes"
	"context"

	"github.com/firelane/firelane/bench/report"
)

// stages are the packages whose benchmarks belong in the report.
var stages = []string{"./fastpath", "./packet", "./bufpool", "./protocol/wireguard/aead"}

// inMemory runs the Go benchmarks of the stages.
func inMemory(ctx context.Context, root string) ([]report.Benchmark, error) {
	out, err := goTool(ctx, root, append([]string{"test", "-run", "^$", "-bench", ".", "-benchmem", "-benchtime", "200ms"}, stages...)...)
	if err != nil {
		return nil, err
	}
	return report.ParseBenchmarks(bytes.NewReader(out))
}
