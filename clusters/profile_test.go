package clusters

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestProfilesAreSane(t *testing.T) {
	for _, profile := range Profiles() {
		if err := profile.Validate(); err != nil {
			t.Errorf("%s: %v", profile.Name, err)
		}
		found, err := ProfileByName(profile.Name)
		if err != nil || found != profile {
			t.Errorf("ProfileByName(%q) = %+v, %v", profile.Name, found, err)
		}
	}
	if _, err := ProfileByName("slow"); !errors.Is(err, ErrBadSpec) || !strings.Contains(err.Error(), ProfileFast) {
		t.Errorf("unknown profile: %v", err)
	}
	Profiles()[0].Name = "changed"
	if Profiles()[0].Name != ProfileDefault {
		t.Error("a caller changed the shipped profiles")
	}
}

func TestValidateFindsProfilesThatWouldNotStayUp(t *testing.T) {
	for name, change := range map[string]func(*Profile){
		"lease too long for the grace": func(p *Profile) { p.NodeLeaseDuration = 16 * time.Second },
		"status too rare":              func(p *Profile) { p.NodeStatusUpdateFrequency = 4 * time.Second },
		"leader gives up after lease":  func(p *Profile) { p.RenewDeadline = p.LeaseDuration },
		"leader tries but once":        func(p *Profile) { p.RetryPeriod = p.RenewDeadline },
		"toleration not in seconds":    func(p *Profile) { p.NotReadyToleration = 1500 * time.Millisecond },
	} {
		profile := fastProfile()
		change(&profile)
		if err := profile.Validate(); !errors.Is(err, ErrBadSpec) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTimersAreStableAndComplete(t *testing.T) {
	first, second := fastProfile().Timers(), fastProfile().Timers()
	values := map[string]string{}
	for i, timer := range first {
		if timer != second[i] {
			t.Errorf("timer %d is %v, then %v", i, timer, second[i])
		}
		if timer.Doc == "" || timer.Value == "" || values[timer.Name] != "" {
			t.Errorf("timer %+v is empty or there twice", timer)
		}
		values[timer.Name] = timer.Value
	}
	for name, want := range map[string]string{"node-monitor-grace-period": "8s", "nodeLeaseDurationSeconds": "8s",
		"node-eviction-rate": "1/s", "default-unreachable-toleration-seconds": "10s"} {
		if values[name] != want {
			t.Errorf("fast %s = %q, want %q", name, values[name], want)
		}
	}
	for _, timer := range defaultProfile().Timers() {
		if timer.Name == "node-eviction-rate" && timer.Value != "0.1/s" {
			t.Errorf("default %s = %q", timer.Name, timer.Value)
		}
	}
}
