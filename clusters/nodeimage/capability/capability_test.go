package capability

import (
	"slices"
	"strings"
	"testing"
)

func TestParseBounding(t *testing.T) {
	for _, test := range []struct {
		name, status string
		want         Set
		wrong        bool
	}{
		{"full", "Name:\tx\nCapEff:\t0000000000000000\nCapBnd:\t000001ffffffffff\nCapAmb:\t0\n", 1<<41 - 1, false},
		{"without SYS_RESOURCE", "CapBnd:\t000001fffeffffff\n", (1<<41 - 1) &^ (1 << SysResource), false},
		{"empty", "CapBnd:\t0000000000000000\n", 0, false},
		{"no such line", "Name:\tx\nCapEff:\t1\n", 0, true},
		{"not a number", "CapBnd:\tmany\n", 0, true},
	} {
		got, err := ParseBounding(strings.NewReader(test.status))
		if (err != nil) != test.wrong || got != test.want {
			t.Errorf("%s: got %x, %v; want %x", test.name, got, err, test.want)
		}
	}
}

func TestMissingByName(t *testing.T) {
	all, err := ParseLast("40\n")
	if err != nil {
		t.Fatal(err)
	}
	bounding, err := ParseBounding(strings.NewReader("CapBnd:\t000001fffeffffff\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := (all &^ bounding).Names(); !slices.Equal(got, []string{"CAP_SYS_RESOURCE"}) {
		t.Errorf("missing: got %v", got)
	}
	if bounding.HasName("CAP_SYS_RESOURCE") || !bounding.HasName("CAP_NET_ADMIN") || !bounding.HasName("CAP_FUTURE") {
		t.Error("HasName: wrong for a missing, a present or an unknown name")
	}
	if len(all.Names()) != 41 || slices.Contains(all.Names(), "") {
		t.Errorf("names of all: %v", all.Names())
	}
}

func TestParseLastRefusesNonsense(t *testing.T) {
	for _, text := range []string{"", "many", "-1", "64"} {
		if set, err := ParseLast(text); err == nil {
			t.Errorf("%q: got %x and no error", text, set)
		}
	}
}
