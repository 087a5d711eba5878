package signal

import (
	"slices"
	"strings"
	"testing"
)

// IDs are ordered as their text, which is what people and databases see, at no cost.
func TestIDsCompareLikeTheirText(t *testing.T) {
	ids := []ID{{}, {1}, {0: 0x9f}, {0: 0xa0}, {15: 1}, {3: 0xff, 4: 1}, {0xff, 0xff}}
	for _, a := range ids {
		for _, b := range ids {
			if got, want := a.Compare(b), strings.Compare(a.String(), b.String()); got != want {
				t.Errorf("%v and %v: %d, want %d", a, b, got, want)
			}
		}
	}
	if n := testing.AllocsPerRun(100, func() { slices.SortFunc(ids, ID.Compare) }); n != 0 {
		t.Errorf("ordering IDs allocates %v times", n)
	}
}
