package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/firelane/firelane/bench/module"
	"github.com/firelane/firelane/bench/report"
)

// stages are the packages whose benchmarks belong in the report, and which of them.
var stages = []struct {
	benchmarks string
	pkgs       []string
}{
	{".", []string{"./fastpath", "./packet", "./bufpool", "./protocol/wireguard/aead"}},
	{"^BenchmarkFlow", []string{"./fib"}},
}

// inMemory runs the Go benchmarks of the stages. With an error come the results of the packages
// that had none.
func inMemory(ctx context.Context, root string) (all []report.Benchmark, err error) {
	for _, s := range stages {
		args := append([]string{"test", "-run", "^$", "-bench", s.benchmarks, "-benchmem", "-benchtime", "200ms"}, s.pkgs...)
		out, failure := module.Go(ctx, root, args...)
		if failure != nil {
			failure = fmt.Errorf("%w %s", failure, strings.Join(failed.FindAllString(string(out), -1), "; "))
		}
		got, parse := report.ParseBenchmarks(bytes.NewReader(out))
		all, err = append(all, got...), errors.Join(err, failure, parse)
	}
	return all, err
}

// failed matches the lines in which go test says what went wrong.
var failed = regexp.MustCompile(`(?m)^(FAIL\s|--- FAIL|panic:|\s+\S+_test\.go:\d+:).*$`)
