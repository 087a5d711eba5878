package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/firelane/firelane/bench/report"
)

// write writes report, chart and samples to the output folder, and with -record into bench.
func (o *options) write(r *report.Run, root string) error {
	path := o.baseline
	if !filepath.IsAbs(path) {
		path = filepath.Join(root, path)
	}
	baseline, err := report.Load(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, mtu := range o.mtus {
		if err := create(filepath.Join(o.out, chartName(mtu)), func(w io.Writer) error { return r.SVG(w, mtu) }); err != nil {
			return err
		}
	}
	file := filepath.Join(o.out, "report.md")
	if err := create(file, func(w io.Writer) error { return r.Markdown(w, baseline, chartName(o.mtus[0])) }); err != nil {
		return err
	}
	if err := r.Save(filepath.Join(o.out, "results.json")); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "report: %s\n", file)
	if !o.record {
		return nil
	}
	if err := create(filepath.Join(root, "bench/RESULTS.md"), func(w io.Writer) error { return r.Markdown(w, baseline, "") }); err != nil {
		return err
	}
	return r.Save(filepath.Join(root, "bench/results.json"))
}

func chartName(mtu int) string { return fmt.Sprintf("chart-%d.svg", mtu) }

func create(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
