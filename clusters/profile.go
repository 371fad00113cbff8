package clusters

import (
	"fmt"
	"strconv"
	"time"
)

// Profile is a named set of the Kubernetes timers that bound how fast a cluster can heal. A provider sets every one of
// them, the default profile's too, so that what a run prints is what the cluster runs with.
type Profile struct {
	Name string

	// The kubelet's timers. NodeStatusUpdateFrequency is how often it looks at itself, NodeStatusReportFrequency how
	// often it reports even without a change. It renews its lease every quarter of NodeLeaseDuration, which is whole
	// seconds.
	NodeStatusUpdateFrequency time.Duration
	NodeStatusReportFrequency time.Duration
	NodeLeaseDuration         time.Duration
	// SyncFrequency bounds how late a change of a mounted ConfigMap or Secret shows in a pod; FileCheckFrequency how
	// late a change of a static pod's manifest is seen.
	SyncFrequency      time.Duration
	FileCheckFrequency time.Duration

	// The controller manager's. A node that was silent for NodeMonitorGracePeriod is NotReady; it is looked for every
	// NodeMonitorPeriod; NodeEvictionInterval is the time between the tainting of two nodes of one zone.
	NodeMonitorPeriod      time.Duration
	NodeMonitorGracePeriod time.Duration
	NodeEvictionInterval   time.Duration

	// The tolerations, in whole seconds, that the API server gives to pods which name none.
	NotReadyToleration    time.Duration
	UnreachableToleration time.Duration

	// Leader election of the controller manager and the scheduler.
	LeaseDuration time.Duration
	RenewDeadline time.Duration
	RetryPeriod   time.Duration

	// The horizontal pod autoscaler's.
	AutoscalerSyncPeriod         time.Duration
	AutoscalerDownStabilization  time.Duration
	AutoscalerReadinessDelay     time.Duration
	AutoscalerCPUInitialization  time.Duration
	ProxyMinSyncPeriod           time.Duration // kube-proxy: the least time between two writes of its rules
	ContainerRestartBackOffFirst time.Duration // fixed in the kubelet; printed because it bounds every crash loop
	ContainerRestartBackOffMax   time.Duration // likewise
}

// Timer is one timer of a profile as people know it: the option's own name upstream, its value as text with a unit, and
// what it bounds.
type Timer struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Doc   string `json:"doc"`
}

// The names of the profiles.
const (
	ProfileDefault = "default"
	ProfileFast    = "fast"
)

// Profiles returns the shipped profiles, default first. The slice is the caller's own.
func Profiles() []Profile { return []Profile{defaultProfile(), fastProfile()} }

// ProfileByName returns a shipped profile; the error lists the names there are.
func ProfileByName(name string) (Profile, error) {
	var names []string
	for _, profile := range Profiles() {
		if profile.Name == name {
			return profile, nil
		}
		names = append(names, profile.Name)
	}
	return Profile{}, fmt.Errorf("profile %q is none of %q: %w", name, names, ErrBadSpec)
}

// defaultProfile holds upstream's own values (Kubernetes 1.32 and later, which raised the grace period from 40 s to 50
// s).
func defaultProfile() Profile {
	return Profile{
		Name:                         ProfileDefault,
		NodeStatusUpdateFrequency:    10 * time.Second,
		NodeStatusReportFrequency:    5 * time.Minute,
		NodeLeaseDuration:            40 * time.Second,
		SyncFrequency:                time.Minute,
		FileCheckFrequency:           20 * time.Second,
		NodeMonitorPeriod:            5 * time.Second,
		NodeMonitorGracePeriod:       50 * time.Second,
		NodeEvictionInterval:         10 * time.Second,
		NotReadyToleration:           300 * time.Second,
		UnreachableToleration:        300 * time.Second,
		LeaseDuration:                15 * time.Second,
		RenewDeadline:                10 * time.Second,
		RetryPeriod:                  2 * time.Second,
		AutoscalerSyncPeriod:         15 * time.Second,
		AutoscalerDownStabilization:  5 * time.Minute,
		AutoscalerReadinessDelay:     30 * time.Second,
		AutoscalerCPUInitialization:  5 * time.Minute,
		ProxyMinSyncPeriod:           time.Second,
		ContainerRestartBackOffFirst: 10 * time.Second,
		ContainerRestartBackOffMax:   5 * time.Minute,
	}
}

// fastProfile makes a dead node cost tens of seconds, not six minutes. A kubelet renews its lease every 2 s here, four
// times within the grace period, so that one late renewal on a busy host is no false alarm; the leader's lease stays
// well above what a slow disk costs etcd.
func fastProfile() Profile {
	return Profile{
		Name:                         ProfileFast,
		NodeStatusUpdateFrequency:    2 * time.Second,
		NodeStatusReportFrequency:    10 * time.Second,
		NodeLeaseDuration:            8 * time.Second,
		SyncFrequency:                10 * time.Second,
		FileCheckFrequency:           5 * time.Second,
		NodeMonitorPeriod:            time.Second,
		NodeMonitorGracePeriod:       8 * time.Second,
		NodeEvictionInterval:         time.Second,
		NotReadyToleration:           10 * time.Second,
		UnreachableToleration:        10 * time.Second,
		LeaseDuration:                10 * time.Second,
		RenewDeadline:                7 * time.Second,
		RetryPeriod:                  time.Second,
		AutoscalerSyncPeriod:         5 * time.Second,
		AutoscalerDownStabilization:  30 * time.Second,
		AutoscalerReadinessDelay:     10 * time.Second,
		AutoscalerCPUInitialization:  30 * time.Second,
		ProxyMinSyncPeriod:           time.Second,
		ContainerRestartBackOffFirst: 10 * time.Second,
		ContainerRestartBackOffMax:   5 * time.Minute,
	}
}

// LeaseRenewInterval is how often a kubelet renews its node's lease: a quarter of the lease, fixed in the kubelet.
func (p Profile) LeaseRenewInterval() time.Duration { return p.NodeLeaseDuration / 4 }

// NodeEvictionRate is NodeEvictionInterval as the controller manager takes it: nodes a second.
func (p Profile) NodeEvictionRate() float64 { return 1 / p.NodeEvictionInterval.Seconds() }

// Timers returns every timer in a stable order: the order in which a dead node meets them, then the rest.
func (p Profile) Timers() []Timer {
	rate := strconv.FormatFloat(p.NodeEvictionRate(), 'g', -1, 64) + "/s"
	return []Timer{
		timer("nodeStatusUpdateFrequency", p.NodeStatusUpdateFrequency, "how often a kubelet computes its node's status"),
		timer("nodeStatusReportFrequency", p.NodeStatusReportFrequency, "how often it reports a status without change"),
		timer("nodeLeaseDurationSeconds", p.NodeLeaseDuration, "the node's lease; renewed every quarter of it"),
		timer("node-monitor-period", p.NodeMonitorPeriod, "how often silent nodes are looked for"),
		timer("node-monitor-grace-period", p.NodeMonitorGracePeriod, "the silence after which a node is NotReady"),
		{Name: "node-eviction-rate", Value: rate, Doc: "unreachable nodes that are tainted, in each zone"},
		timer("default-not-ready-toleration-seconds", p.NotReadyToleration, "how long pods stay on a NotReady node"),
		timer("default-unreachable-toleration-seconds", p.UnreachableToleration,
			"how long pods stay on an unreachable node"),
		timer("leader-elect-lease-duration", p.LeaseDuration, "how long a dead leader's lease blocks the next one"),
		timer("leader-elect-renew-deadline", p.RenewDeadline, "when a leader that cannot renew gives up"),
		timer("leader-elect-retry-period", p.RetryPeriod, "how often the lease is tried for"),
		timer("kube-proxy.minSyncPeriod", p.ProxyMinSyncPeriod, "the least time between two writes of Service rules"),
		timer("syncFrequency", p.SyncFrequency, "how late a changed ConfigMap shows in a pod"),
		timer("fileCheckFrequency", p.FileCheckFrequency, "how late a changed static pod is seen"),
		timer("container-restart-back-off", p.ContainerRestartBackOffFirst, "the wait before a second restart; doubles"),
		timer("container-restart-back-off-max", p.ContainerRestartBackOffMax, "where that doubling ends"),
		timer("horizontal-pod-autoscaler-sync-period", p.AutoscalerSyncPeriod, "how often the autoscaler decides"),
		timer("horizontal-pod-autoscaler-downscale-stabilization", p.AutoscalerDownStabilization,
			"how long it waits before it scales down"),
		timer("horizontal-pod-autoscaler-initial-readiness-delay", p.AutoscalerReadinessDelay,
			"how long a new pod's readiness is not trusted"),
		timer("horizontal-pod-autoscaler-cpu-initialization-period", p.AutoscalerCPUInitialization,
			"how long a new pod's CPU use is not trusted"),
	}
}

// Validate says why a cluster with these timers would not stay up on a busy host.
func (p Profile) Validate() error {
	if p.LeaseRenewInterval()*3 > p.NodeMonitorGracePeriod || p.NodeStatusUpdateFrequency*3 > p.NodeMonitorGracePeriod {
		return fmt.Errorf("profile %s: a kubelet cannot renew three times within %v: %w",
			p.Name, p.NodeMonitorGracePeriod, ErrBadSpec)
	}
	if p.RenewDeadline >= p.LeaseDuration || p.RetryPeriod*2 >= p.RenewDeadline {
		return fmt.Errorf("profile %s: leader election needs retry period < renew deadline / 2 < lease: %w",
			p.Name, ErrBadSpec)
	}
	for _, whole := range []time.Duration{p.NodeLeaseDuration, p.NotReadyToleration, p.UnreachableToleration} {
		if whole < time.Second || whole%time.Second != 0 {
			return fmt.Errorf("profile %s: %v is not whole seconds: %w", p.Name, whole, ErrBadSpec)
		}
	}
	return nil
}

func timer(name string, value time.Duration, doc string) Timer {
	return Timer{Name: name, Value: value.String(), Doc: doc}
}
