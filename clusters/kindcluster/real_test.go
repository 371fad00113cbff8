//go:build cluster

package kindcluster

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/rebound-chaos/rebound/clusters"
	"github.com/rebound-chaos/rebound/clusters/image"
)

// testImage is what checkImages loaded; the checks run one after the other.
var testImage string

// lines writes progress to the test's log.
type lines struct{ t testing.TB }

func (l lines) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}

// twoWorkers asks for every kind of label: one that kubelets may set, one that they may not, and a role.
func twoWorkers(name string) clusters.Spec {
	return clusters.Spec{Name: name, Profile: clusters.ProfileFast, Workers: []clusters.NodeGroup{
		{Count: 1, Labels: map[string]string{"topology.kubernetes.io/zone": "a", "tier": "front"}, Role: "edge"},
		{Count: 1, Labels: map[string]string{"topology.kubernetes.io/zone": "b", "example.k8s.io/disk": "fast"}},
	}}
}

func newReal(t testing.TB) *Provider {
	t.Helper()
	p, err := New(WithState(t.TempDir()), WithProgress(lines{t}))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// nothingLeft fails the test where the engine or the state folder still has something of the cluster.
func nothingLeft(t testing.TB, p *Provider, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	found, err := p.ours(ctx, name)
	if err != nil || len(found) > 0 {
		t.Errorf("containers left: %v, %v", found, err)
	}
	for _, kind := range []string{"network", "image"} {
		if left, err := p.engine.ids(ctx, kind, marks(name)...); err != nil || len(left) > 0 {
			t.Errorf("%ss left: %v, %v", kind, left, err)
		}
	}
	if entries, err := os.ReadDir(p.store.root); err == nil && len(entries) > 0 {
		t.Errorf("files left in %s: %v", p.store.root, entries)
	}
}

func TestRealCluster(t *testing.T) {
	p := newReal(t)
	const name = "real"
	t.Cleanup(func() {
		err := p.Delete(context.WithoutCancel(t.Context()), name)
		if err != nil && !errors.Is(err, clusters.ErrNotFound) {
			t.Error(err)
		}
		nothingLeft(t, p, name)
	})
	started := time.Now()
	made, err := p.Create(t.Context(), twoWorkers(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("created in %.1f s, %s", time.Since(started).Seconds(), made.KubernetesVersion)
	t.Run("list and get", func(t *testing.T) { checkListAndGet(t, p, made) })
	t.Run("labels", func(t *testing.T) { checkLabels(t, made) })
	t.Run("timers", func(t *testing.T) { checkTimers(t, made) })
	t.Run("exec and stream", func(t *testing.T) { checkExec(t, made) })
	t.Run("images", func(t *testing.T) { checkImages(t, made) })
	t.Run("reset", func(t *testing.T) { checkReset(t, made) })
	t.Run("not as before", func(t *testing.T) { checkNotAsBefore(t, made) })
	t.Run("dead", func(t *testing.T) { checkDead(t, p, made) })
}

func client(t testing.TB, c *clusters.Cluster) kubernetes.Interface {
	t.Helper()
	cfg, err := c.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	api, err := kubernetes.NewForConfig(clusters.Protobuf(cfg))
	if err != nil {
		t.Fatal(err)
	}
	return api
}

func checkListAndGet(t *testing.T, p *Provider, made *clusters.Cluster) {
	got, err := p.Get(t.Context(), made.Name)
	if err != nil {
		t.Fatal(err)
	}
	if got.Profile != made.Profile || len(got.Nodes) != 3 || got.KubernetesVersion != made.KubernetesVersion ||
		got.Kubeconfig != filepath.Join(made.State, clusters.FileKubeconfig) {
		t.Errorf("Get = %+v, made was %+v", got, made)
	}
	list, err := p.List(t.Context())
	if err != nil || len(list) != 1 || list[0].Name != made.Name || list[0].Problem != nil {
		t.Errorf("List = %+v, %v", list, err)
	}
	if _, err := p.Create(t.Context(), twoWorkers(made.Name)); !errors.Is(err, clusters.ErrNameTaken) {
		t.Errorf("second Create: %v", err)
	}
	for _, file := range []string{clusters.FileKubeconfig, clusters.FileSpec, clusters.FileFingerprint} {
		if info, err := os.Stat(filepath.Join(made.State, file)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
}

func checkLabels(t *testing.T, made *clusters.Cluster) {
	nodes, err := client(t, made).CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]string{
		workerName(made.Name, 1):               {"topology.kubernetes.io/zone": "a", "tier": "front", roleLabel + "edge": ""},
		workerName(made.Name, 2):               {"topology.kubernetes.io/zone": "b", "example.k8s.io/disk": "fast"},
		kindName(made.Name) + "-control-plane": {clusters.LabelManaged: labelTrue, clusters.LabelCluster: made.Name},
	}
	for _, node := range nodes.Items {
		if !contains(node.Labels, want[node.Name]) {
			t.Errorf("node %s has labels %v, want %v", node.Name, node.Labels, want[node.Name])
		}
		delete(want, node.Name)
	}
	if len(want) > 0 {
		t.Errorf("nodes that are not there: %v", want)
	}
}

// checkTimers asks the cluster itself what it runs with: what a run prints must be true.
func checkTimers(t *testing.T, made *clusters.Cluster) {
	api, profile := client(t, made), made.Profile
	lease, err := api.CoordinationV1().Leases("kube-node-lease").Get(t.Context(), workerName(made.Name, 1),
		metav1.GetOptions{})
	check(t, err)
	if got, want := *lease.Spec.LeaseDurationSeconds, int32(profile.NodeLeaseDuration.Seconds()); got != want {
		t.Errorf("node lease of %d s, want %d", got, want)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "dry"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "none"}}}}
	pod, err = api.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{"All"}})
	check(t, err)
	seconds := map[string]int64{}
	for _, toleration := range pod.Spec.Tolerations {
		seconds[toleration.Key] = *toleration.TolerationSeconds
	}
	if seconds[corev1.TaintNodeNotReady] != int64(profile.NotReadyToleration.Seconds()) ||
		seconds[corev1.TaintNodeUnreachable] != int64(profile.UnreachableToleration.Seconds()) {
		t.Errorf("tolerations of a new pod: %v", seconds)
	}
	node, err := made.Node(kindName(made.Name) + "-control-plane")
	check(t, err)
	for _, c := range []struct{ component, want string }{
		{"kube-controller-manager", "--node-monitor-grace-period=" + profile.NodeMonitorGracePeriod.String()},
		{"kube-controller-manager", "--node-eviction-rate=1"},
		{"kube-controller-manager", "--leader-elect-lease-duration=" + profile.LeaseDuration.String()},
		{"kube-scheduler", "--leader-elect-renew-deadline=" + profile.RenewDeadline.String()},
	} {
		_, err := node.Exec(t.Context(), "grep", "--fixed-strings", "--", c.want,
			"/etc/kubernetes/manifests/"+c.component+".yaml")
		if err != nil {
			t.Errorf("%s runs without %s: %v", c.component, c.want, err)
		}
	}
	config, err := api.CoreV1().RESTClient().Get().
		AbsPath("/api/v1/nodes", workerName(made.Name, 1), "proxy/configz").DoRaw(t.Context())
	check(t, err)
	for _, want := range []string{`"nodeStatusUpdateFrequency":"2s"`, `"syncFrequency":"10s"`,
		`"fileCheckFrequency":"5s"`} {
		if !strings.Contains(string(config), want) {
			t.Errorf("kubelet runs without %s: %s", want, config)
		}
	}
}

func checkExec(t *testing.T, made *clusters.Cluster) {
	node, err := made.Node(workerName(made.Name, 1))
	if err != nil {
		t.Fatal(err)
	}
	out, err := node.Exec(t.Context(), "printf", "%s", "a b; $(c)")
	if err != nil || string(out) != "a b; $(c)" {
		t.Errorf("Exec = %q, %v", out, err)
	}
	_, err = node.Exec(t.Context(), "ls", "/nowhere")
	var failed *clusters.ExecError
	if !errors.As(err, &failed) || failed.Code != 2 || !strings.Contains(failed.Stderr, "/nowhere") {
		t.Errorf("a command that fails: %v", err)
	}
	var copied strings.Builder
	if err := node.(clusters.Streamer).Stream(t.Context(), strings.NewReader("fed"), &copied, "cat"); err != nil ||
		copied.String() != "fed" {
		t.Errorf("Stream = %q, %v", copied.String(), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	started := time.Now()
	_, err = node.Exec(ctx, "sleep", "20")
	if took := time.Since(started); !errors.Is(err, context.DeadlineExceeded) || took > 5*time.Second {
		t.Errorf("a command past its limit: %v after %v", err, took)
	}
}

func checkImages(t *testing.T, made *clusters.Cluster) {
	binary := filepath.Join(t.TempDir(), "program")
	build := exec.Command("go", "build", "-o", binary, "testdata/pause.go")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for _, what := range []string{"loaded into three nodes", "found there"} {
		started := time.Now()
		ref, err := image.Ensure(t.Context(), made.Nodes, binary)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s %s in %.2f s", ref, what, time.Since(started).Seconds())
		testImage = ref
	}
	for _, node := range made.Nodes {
		has, err := node.(clusters.ImageHolder).HasImage(t.Context(), "shop:v2")
		if err != nil || has {
			t.Errorf("an image that was never loaded: %v, %v", has, err)
		}
	}
}

// dirty leaves behind what a run that was killed would: two namespaces with three pods each, objects outside them, and
// traces on and in a node.
func dirty(t *testing.T, made *clusters.Cluster, image string) {
	t.Helper()
	api, ctx := client(t, made), t.Context()
	marked := map[string]string{clusters.LabelManaged: labelTrue}
	for _, space := range []string{"rebound-one", "rebound-two"} {
		check(t, create(api.CoreV1().Namespaces().Create(ctx,
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: space, Labels: marked}}, metav1.CreateOptions{})))
		check(t, create(api.AppsV1().Deployments(space).Create(ctx, deployment(image, 3), metav1.CreateOptions{})))
	}
	check(t, create(api.RbacV1().ClusterRoles().Create(ctx,
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "left-over", Labels: marked}}, metav1.CreateOptions{})))
	check(t, create(api.CoreV1().ConfigMaps("default").Create(ctx,
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "left-over", Labels: marked}}, metav1.CreateOptions{})))
	worker := workerName(made.Name, 1)
	patch := `{"metadata":{"labels":{"left":"over","tier":"changed"}},"spec":{"unschedulable":true,` +
		`"taints":[{"key":"left-over","effect":"NoSchedule"}]}}`
	check(t, create(api.CoreV1().Nodes().Patch(ctx, worker, types.MergePatchType, []byte(patch), metav1.PatchOptions{})))
	node, err := made.Node(worker)
	check(t, err)
	for _, argv := range [][]string{
		{"nft", "add", "table", "inet", "rebound-cut"},
		{"mkdir", "-p", clusters.NodeDir + "/samples"},
		{"cp", "/bin/sleep", clusters.NodeDir + "/agent"},
		{"systemd-run", "--quiet", clusters.NodeDir + "/agent", "600"},
	} {
		_, err := node.Exec(ctx, argv...)
		check(t, err)
	}
	waitPods(t, api, "rebound-one", "rebound-two")
}

func create(_ any, err error) error { return err }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func deployment(image string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": "left-over"}
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "left-over"}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: image}}}}}}
}

func waitPods(t *testing.T, api kubernetes.Interface, spaces ...string) {
	t.Helper()
	for _, space := range spaces {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
			found, err := api.AppsV1().Deployments(space).Get(t.Context(), "left-over", metav1.GetOptions{})
			check(t, err)
			if found.Status.ReadyReplicas == *found.Spec.Replicas {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("deployment in %s: %+v", space, found.Status)
			}
		}
	}
}

func checkReset(t *testing.T, made *clusters.Cluster) {
	saved, err := clusters.LoadFingerprint(made)
	check(t, err)
	started := time.Now()
	now, err := clusters.TakeFingerprint(t.Context(), made)
	check(t, err)
	t.Logf("fingerprint of %d objects in %.2f s", len(now.Objects), time.Since(started).Seconds())
	if diff := saved.Diff(now); len(diff) > 0 {
		t.Errorf("a cluster that nobody touched differs: %v", diff)
	}
	for round := range 2 {
		dirty(t, made, testImage)
		now, err := clusters.TakeFingerprint(t.Context(), made)
		check(t, err)
		for _, want := range []string{"namespaces rebound-one is new", "configmaps default/left-over is new", "label",
			"unschedulable was false, is true", "taint left-over:NoSchedule is new", "nft table inet rebound-cut is new",
			"file " + clusters.NodeDir + "/agent is new", "process " + clusters.NodeDir + "/agent is new"} {
			if diff := strings.Join(saved.Diff(now), "\n"); !strings.Contains(diff, want) {
				t.Errorf("the difference lacks %q:\n%s", want, diff)
			}
		}
		started := time.Now()
		if err := clusters.Reset(t.Context(), made); err != nil {
			t.Fatal(err)
		}
		t.Logf("reset %d in %.2f s", round+1, time.Since(started).Seconds())
	}
}

// checkNotAsBefore changes what a reset must not guess at.
func checkNotAsBefore(t *testing.T, made *clusters.Cluster) {
	scale := func(replicas string) {
		patch := []byte(`{"spec":{"replicas":` + replicas + `}}`)
		check(t, create(client(t, made).AppsV1().Deployments("kube-system").Patch(t.Context(), "coredns",
			types.MergePatchType, patch, metav1.PatchOptions{})))
	}
	scale("1")
	err := clusters.Reset(t.Context(), made)
	if !errors.Is(err, clusters.ErrNotAsBefore) || !strings.Contains(err.Error(), ".spec.replicas was 2, is 1") {
		t.Errorf("Reset = %v", err)
	}
	scale("2")
	check(t, clusters.Reset(t.Context(), made))
}

func checkDead(t *testing.T, p *Provider, made *clusters.Cluster) {
	check(t, create(p.engine.output(t.Context(), "stop", "--time=0", workerName(made.Name, 2))))
	_, err := p.Get(t.Context(), made.Name)
	if !errors.Is(err, clusters.ErrUnreachable) || !strings.Contains(err.Error(), "rebound cluster delete "+made.Name) {
		t.Errorf("Get of a cluster with a dead node: %v", err)
	}
	list, err := p.List(t.Context())
	if err != nil || len(list) != 1 || !errors.Is(list[0].Problem, clusters.ErrUnreachable) {
		t.Errorf("List = %+v, %v", list, err)
	}
}

// cancelAt cancels when a step of the creation is reported.
type cancelAt struct {
	lines
	step   string
	cancel context.CancelFunc
	at     time.Time
}

func (c *cancelAt) Write(p []byte) (int, error) {
	if c.at.IsZero() && strings.Contains(string(p), c.step) {
		c.at = time.Now()
		c.cancel()
	}
	return c.lines.Write(p)
}

func TestRealCancel(t *testing.T) {
	for _, step := range []string{"preparing network", "Ensuring node image", "Preparing nodes", "Writing configuration",
		"Starting control-plane", "Joining worker nodes", "waiting for nodes"} {
		t.Run(step, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			p := newReal(t)
			at := &cancelAt{lines: lines{t}, step: step, cancel: cancel}
			p.progress = at
			_, err := p.Create(ctx, twoWorkers("cancelled"))
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("Create = %v", err)
			}
			t.Logf("returned %.1f s after the cancel: %v", time.Since(at.at).Seconds(), err)
			nothingLeft(t, p, "cancelled")
		})
	}
}
