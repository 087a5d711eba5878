package main

import (
	"fmt"
	"time"

	"github.com/firelane/firelane/bench/relay/traffic"
)

// Row is one kind of load. Its name tells it from all others.
type Row struct {
	Name string
	// Plan is what is sent; its Length is that of the run.
	Plan traffic.Plan
	// Crowd is the number of idle allocations of the row that measures memory; else 0.
	Crowd int
}

// allRows lists all rows in the order of the report: first at a rate that every relay sustains,
// so that they do the same work, then as fast as they can.
func allRows() []Row {
	var rows []Row
	for _, rate := range []float64{pacedRate, 0} {
		for _, train := range []int{trainLen, 1} {
			for _, payload := range []int{largePayload, smallPayload} {
				for _, n := range []int{1, 10, maxLines} {
					rows = append(rows, newRow(traffic.Plan{Up: true, Down: true, Lines: n, Payload: payload, Train: train, Rate: rate}))
				}
			}
		}
	}
	for _, train := range []int{trainLen, 1} {
		for _, up := range []bool{true, false} {
			rows = append(rows, newRow(traffic.Plan{Up: up, Down: !up, Lines: 10, Payload: largePayload, Train: train, Rate: pacedRate}))
		}
	}
	return append(rows, Row{Name: fmt.Sprintf("%d idle allocations", crowdSize), Crowd: crowdSize})
}

func newRow(p traffic.Plan) Row {
	pattern, rate, direction := "singles", "saturating", "both directions"
	if p.Train > 1 {
		pattern = "trains"
	}
	if p.Rate > 0 {
		rate = fmt.Sprintf("%.0f/s each way", p.Rate)
	}
	switch {
	case !p.Down:
		direction = "up only"
	case !p.Up:
		direction = "down only"
	}
	p.Length = time.Second
	return Row{Name: fmt.Sprintf("%s, %d bytes, %d allocations, %s, %s", pattern, p.Payload, p.Lines, direction, rate), Plan: p}
}

// floor is the largest share of a rival's CPU per GB that the relay may need in the row; 0 for
// none.
func (r Row) floor() float64 {
	switch {
	case r.Crowd > 0:
		return 0
	case r.Plan.Train > 1:
		return trainsFloor
	}
	return singlesFloor
}

const (
	largePayload, smallPayload = 1280, 100
	// trainLen is what a gateway makes of a 64 KiB packet of its tunnel.
	trainLen = 50
	maxLines = 100
	// pacedRate is in datagrams per second and direction: 0.2 Gbit/s each way of the large ones.
	pacedRate = 20_000
	crowdSize = 10_000

	trainsFloor, singlesFloor = 0.25, 0.5
)
