package portal

import (
	"cmp"
	"math"
)

// Location is where an address is believed to be.
type Location struct {
	// Region is the country in ISO 3166 alpha-2, City a name; both may be empty.
	Region, City string
	// Latitude and Longitude are in degrees; they count if Located is set.
	Latitude, Longitude float64
	Located             bool
}

// earthRadius is in kilometres.
const earthRadius = 6371

// distance is the way between two places along the surface, in kilometres by the haversine formula.
func distance(a, b Location) float64 {
	rad := func(degrees float64) float64 { return degrees * math.Pi / 180 }
	sinLat := math.Sin(rad(b.Latitude-a.Latitude) / 2)
	sinLon := math.Sin(rad(b.Longitude-a.Longitude) / 2)
	h := sinLat*sinLat + math.Cos(rad(a.Latitude))*math.Cos(rad(b.Latitude))*sinLon*sinLon
	return 2 * earthRadius * math.Asin(math.Sqrt(min(h, 1)))
}

// nearer orders places by their distance from here, those without a place last.
func nearer(here, a, b Location) int {
	if !a.Located || !b.Located {
		return cmp.Compare(b2i(!a.Located), b2i(!b.Located))
	}
	return cmp.Compare(distance(here, a), distance(here, b))
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
