package kindcluster

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
	"sigs.k8s.io/yaml"

	"github.com/rebound-chaos/rebound/clusters"
)

// prefix opens the name of everything that we have kind make, so that a person who lists containers sees whose they
// are.
const prefix = "rebound-"

// nameLimit is kind's 50 characters for a cluster's name (a host name must fit "-control-plane" too) less our prefix.
const nameLimit = 50 - len(prefix)

// roleLabel opens the label that `kubectl get nodes` shows as a role.
const roleLabel = "node-role.kubernetes.io/"

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// kindName is kind's name for our cluster; its network is called the same.
func kindName(name string) string { return prefix + name }

// normalise fills in what a spec leaves out and says what kind cannot make of it.
func normalise(spec clusters.Spec) (clusters.Spec, clusters.Profile, error) {
	if spec.Profile == "" {
		spec.Profile = clusters.ProfileFast
	}
	if spec.ControlPlanes == 0 {
		spec.ControlPlanes = 1
	}
	profile, err := clusters.ProfileByName(spec.Profile)
	if err != nil {
		return spec, profile, err
	}
	if err := validateName(spec.Name); err != nil {
		return spec, profile, err
	}
	if spec.ControlPlanes != 1 {
		return spec, profile, fmt.Errorf("%w: %d control planes: kind puts a load balancer before several, and Rebound has "+
			"no image for that one which carries its labels; ask for 1", clusters.ErrBadSpec, spec.ControlPlanes)
	}
	for i, group := range spec.Workers {
		if err := validateGroup(group); err != nil {
			return spec, profile, fmt.Errorf("worker group %d: %w", i+1, err)
		}
	}
	return spec, profile, profile.Validate()
}

func validateName(name string) error {
	if len(name) > nameLimit || !validName.MatchString(name) {
		return fmt.Errorf("%w: cluster name %q: use 1 to %d of a-z, 0-9 and -, neither first nor last a -",
			clusters.ErrBadSpec, name, nameLimit)
	}
	return nil
}

func validateGroup(group clusters.NodeGroup) error {
	if group.Count < 1 {
		return fmt.Errorf("%w: %d workers: a group has at least 1", clusters.ErrBadSpec, group.Count)
	}
	if group.Role == "control-plane" {
		return fmt.Errorf("%w: a worker's role cannot be control-plane", clusters.ErrBadSpec)
	}
	labels := maps.Clone(group.Labels)
	if group.Role != "" {
		if labels == nil {
			labels = map[string]string{}
		}
		labels[roleLabel+group.Role] = ""
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		problems := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(labels[key])...)
		if len(problems) > 0 {
			return fmt.Errorf("%w: label %s=%s: %s", clusters.ErrBadSpec, key, labels[key], strings.Join(problems, "; "))
		}
		if key == clusters.LabelManaged || key == clusters.LabelCluster {
			return fmt.Errorf("%w: label %s is Rebound's own", clusters.ErrBadSpec, key)
		}
	}
	return nil
}

// host says what the engine's host lacks, so that the cluster must do without. The zero value is an ordinary host.
type host struct {
	cgroup1     bool // only cgroup v1: a kubelet refuses it unless told
	noResources bool // no CAP_SYS_RESOURCE: nobody can raise an rlimit or lower an oom score
}

// kindConfig writes the spec as kind's own configuration.
func kindConfig(spec clusters.Spec, profile clusters.Profile, image string, h host) (*v1alpha4.Cluster, error) {
	kubelet := map[string]any{
		"kind":                      "KubeletConfiguration",
		"nodeStatusUpdateFrequency": profile.NodeStatusUpdateFrequency.String(),
		"nodeStatusReportFrequency": profile.NodeStatusReportFrequency.String(),
		"nodeLeaseDurationSeconds":  int(profile.NodeLeaseDuration.Seconds()),
		"syncFrequency":             profile.SyncFrequency.String(),
		"fileCheckFrequency":        profile.FileCheckFrequency.String(),
	}
	gates := map[string]bool{}
	if h.cgroup1 {
		kubelet["failCgroupV1"] = false
	}
	if h.noResources {
		gates["KubeletInUserNamespace"] = true
	}
	proxy := map[string]any{
		"kind":     "KubeProxyConfiguration",
		"nftables": map[string]any{"minSyncPeriod": profile.ProxyMinSyncPeriod.String()},
	}
	patches, err := patches(clusterConfiguration(profile), kubelet, proxy)
	if err != nil {
		return nil, err
	}
	cfg := &v1alpha4.Cluster{
		Name:                 kindName(spec.Name),
		Networking:           v1alpha4.Networking{KubeProxyMode: v1alpha4.NFTablesProxyMode},
		KubeadmConfigPatches: patches,
	}
	if len(gates) > 0 {
		cfg.FeatureGates = gates
	}
	marks := map[string]string{clusters.LabelManaged: labelTrue, clusters.LabelCluster: spec.Name}
	for range spec.ControlPlanes {
		cfg.Nodes = append(cfg.Nodes, v1alpha4.Node{Role: v1alpha4.ControlPlaneRole, Image: image, Labels: marks})
	}
	for _, group := range spec.Workers {
		labels := maps.Clone(marks)
		for key, value := range group.Labels {
			if selfLabel(key) {
				labels[key] = value
			}
		}
		for range group.Count {
			cfg.Nodes = append(cfg.Nodes, v1alpha4.Node{Role: v1alpha4.WorkerRole, Image: image, Labels: labels})
		}
	}
	return cfg, nil
}

// clusterConfiguration sets the profile's timers on the control plane. kind merges a patch without apiVersion into
// every version of kubeadm's configuration, arguments written as a map into its newer lists too.
func clusterConfiguration(p clusters.Profile) map[string]any {
	seconds := func(value interface{ Seconds() float64 }) string { return strconv.Itoa(int(value.Seconds())) }
	election := map[string]any{
		"leader-elect-lease-duration": p.LeaseDuration.String(),
		"leader-elect-renew-deadline": p.RenewDeadline.String(),
		"leader-elect-retry-period":   p.RetryPeriod.String(),
	}
	manager := maps.Clone(election)
	maps.Copy(manager, map[string]any{
		"node-monitor-period":                                 p.NodeMonitorPeriod.String(),
		"node-monitor-grace-period":                           p.NodeMonitorGracePeriod.String(),
		"node-eviction-rate":                                  strconv.FormatFloat(p.NodeEvictionRate(), 'g', -1, 64),
		"horizontal-pod-autoscaler-sync-period":               p.AutoscalerSyncPeriod.String(),
		"horizontal-pod-autoscaler-downscale-stabilization":   p.AutoscalerDownStabilization.String(),
		"horizontal-pod-autoscaler-initial-readiness-delay":   p.AutoscalerReadinessDelay.String(),
		"horizontal-pod-autoscaler-cpu-initialization-period": p.AutoscalerCPUInitialization.String(),
	})
	return map[string]any{
		"kind": "ClusterConfiguration",
		"apiServer": map[string]any{"extraArgs": map[string]any{
			"default-not-ready-toleration-seconds":   seconds(p.NotReadyToleration),
			"default-unreachable-toleration-seconds": seconds(p.UnreachableToleration),
		}},
		"controllerManager": map[string]any{"extraArgs": manager},
		"scheduler":         map[string]any{"extraArgs": election},
	}
}

func patches(objects ...map[string]any) ([]string, error) {
	var texts []string
	for _, object := range objects {
		text, err := yaml.Marshal(object)
		if err != nil {
			return nil, fmt.Errorf("kubeadm patch %v: %w", object["kind"], err)
		}
		texts = append(texts, string(text))
	}
	return texts, nil
}

// selfLabel reports whether a kubelet may put the label on its own node, and so puts it back when the node registers
// anew. Of Kubernetes' own names it may set but these few.
func selfLabel(key string) bool {
	domain, _, found := strings.Cut(key, "/")
	if !found {
		return true
	}
	reserved := domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io") ||
		domain == "k8s.io" || strings.HasSuffix(domain, ".k8s.io")
	if !reserved {
		return true
	}
	switch key {
	case "topology.kubernetes.io/zone", "topology.kubernetes.io/region", "node.kubernetes.io/instance-type",
		"failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region":
		return true
	}
	for _, own := range []string{"kubelet.kubernetes.io", "node.kubernetes.io"} {
		if domain == own || strings.HasSuffix(domain, "."+own) {
			return true
		}
	}
	return false
}

// apiLabels returns what must be put on each node through the API: the roles, and the labels that kubelets may not set.
// Nodes are named as kind names them: PREFIX-worker, PREFIX-worker2, ...
func apiLabels(spec clusters.Spec) map[string]map[string]string {
	byNode := map[string]map[string]string{}
	number := 0
	for _, group := range spec.Workers {
		labels := map[string]string{}
		for key, value := range group.Labels {
			if !selfLabel(key) {
				labels[key] = value
			}
		}
		if group.Role != "" {
			labels[roleLabel+group.Role] = ""
		}
		for range group.Count {
			number++
			if len(labels) > 0 {
				byNode[workerName(spec.Name, number)] = labels
			}
		}
	}
	return byNode
}

func workerName(cluster string, number int) string {
	name := kindName(cluster) + "-worker"
	if number > 1 {
		name += strconv.Itoa(number)
	}
	return name
}

// nodeCount is the number of nodes that the spec asks for.
func nodeCount(spec clusters.Spec) int {
	count := spec.ControlPlanes
	for _, group := range spec.Workers {
		count += group.Count
	}
	return count
}
