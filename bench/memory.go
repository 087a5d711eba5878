package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/firelane/firelane/bench/report"
)

// stages are the packages whose benchmarks belong in the report.
var stages = []string{"./fastpath", "./packet", "./bufpool", "./protocol/wireguard/aead"}

// inMemory runs the Go benchmarks of the stages. With an error come the results of the packages
// that had none.
func inMemory(ctx context.Context, root string) ([]report.Benchmark, error) {
	out, err := goTool(ctx, root, append([]string{"test", "-run", "^$", "-bench", ".", "-benchmem", "-benchtime", "200ms"}, stages...)...)
	if err != nil {
		err = fmt.Errorf("%w %s", err, strings.Join(failed.FindAllString(string(out), -1), "; "))
	}
	all, parseErr := report.ParseBenchmarks(bytes.NewReader(out))
	return all, errors.Join(err, parseErr)
}

// failed matches the lines in which go test says what went wrong.
var failed = regexp.MustCompile(`(?m)^(FAIL\s|--- FAIL|panic:|\s+\S+_test\.go:\d+:).*$`)
