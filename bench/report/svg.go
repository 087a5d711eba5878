package report

import (
	"fmt"
	"html/template"
	"io"
	"math"
)

// SVG draws the medians of the run at one MTU as horizontal bars: a panel for CPU per GB of the
// TCP rows, one for CPU per packet and one for packets per second of the UDP rows.
func (r *Run) SVG(w io.Writer, mtu int) error {
	c := &chart{Title: fmt.Sprintf("MTU %d, %s, %d cores, Linux %s", mtu, r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel)}
	c.legend(r)
	c.panel(r, mtu, TCP, "gateway CPU, seconds per GB (less is better)", Sample.Cost, 2)
	c.panel(r, mtu, UDP, "gateway CPU, µs per packet (less is better)", Sample.Cost, 1)
	c.panel(r, mtu, UDP, "packets delivered per second (more is better)", Sample.Rate, 0)
	c.Height = c.y + chartGap
	return chartTemplate.Execute(w, c)
}

// chart is a list of shapes, placed from the top down.
type chart struct {
	Title  string
	Height int
	Bars   []bar
	Texts  []text
	y      int
}

type bar struct {
	X, Y, Width int
	Colour      string
}

type text struct {
	X, Y         int
	Text, Anchor string
	Bold         bool
}

func (c *chart) legend(r *Run) {
	c.Texts = append(c.Texts, text{X: chartGap, Y: 24, Text: c.Title, Anchor: "start", Bold: true})
	for i, g := range r.Gateways {
		x := chartGap + i*160
		c.Bars = append(c.Bars, bar{X: x, Y: 36, Width: barHeight, Colour: colour(i)})
		c.Texts = append(c.Texts, text{X: x + 18, Y: 47, Text: g.Name, Anchor: "start"})
	}
	c.y = 60
}

func (c *chart) panel(r *Run, mtu int, kind Kind, title string, f figure, digits int) {
	most := 0.0
	for _, row := range r.rows(mtu) {
		for _, g := range r.Gateways {
			if v := r.of(f, row.Name, mtu, g.Name).Median; row.Kind == kind && !math.IsNaN(v) {
				most = max(most, v)
			}
		}
	}
	if most == 0 {
		return
	}
	c.y += chartGap
	c.Texts = append(c.Texts, text{X: chartGap, Y: c.y, Text: title, Anchor: "start", Bold: true})
	c.y += 8
	for _, row := range r.rows(mtu) {
		if row.Kind != kind {
			continue
		}
		c.Texts = append(c.Texts, text{X: labelWidth - 8, Y: c.y + 12 + (len(r.Gateways)-1)*(barHeight+1)/2, Text: row.Title, Anchor: "end"})
		for i, g := range r.Gateways {
			v := r.of(f, row.Name, mtu, g.Name).Median
			width, label := 0, "failed"
			if !math.IsNaN(v) {
				width, label = int(v/most*plotWidth), number(v, digits)
			}
			c.Bars = append(c.Bars, bar{X: labelWidth, Y: c.y, Width: width, Colour: colour(i)})
			c.Texts = append(c.Texts, text{X: labelWidth + width + 4, Y: c.y + 10, Text: label, Anchor: "start"})
			c.y += barHeight + 1
		}
		c.y += 6
	}
}

func colour(i int) string { return colours[i%len(colours)] }

// colours are three that remain apart in grey and for the colour-blind, and a spare.
var colours = []string{"#d55e00", "#0072b2", "#8fb8d8", "#666666"}

const (
	chartGap   = 20
	labelWidth = 270
	plotWidth  = 440
	barHeight  = 12
)

var chartTemplate = template.Must(template.New("chart").Parse(`<svg xmlns="http://www.w3.org/2000/svg" width="790" height="{{.Height}}" font-family="sans-serif" font-size="11">
<rect width="100%" height="100%" fill="white"/>
{{range .Bars}}<rect x="{{.X}}" y="{{.Y}}" width="{{.Width}}" height="12" fill="{{.Colour}}"/>
{{end}}{{range .Texts}}<text x="{{.X}}" y="{{.Y}}" text-anchor="{{.Anchor}}"{{if .Bold}} font-weight="bold"{{end}}>{{.Text}}</text>
{{end}}</svg>
`))
