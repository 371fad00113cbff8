package recorder

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rebound-chaos/rebound/runner/recorder/prober"
)

// stateDir is the folder on a vantage node under which each run keeps the files of its probers.
const stateDir = "/var/lib/rebound"

// proberGrace is how long a prober may take to end, in seconds.
const proberGrace = 1

// probeRun is one prober that was deployed.
type probeRun struct {
	probe  Probe
	node   Node
	pod    string
	dir    string
	file   string
	follow *follower
	cancel context.CancelFunc
	ended  chan struct{} // closed when the follower has returned; nil before it started
}

// startProbe deploys one prober and follows its file.
func (r *Recorder) startProbe(ctx context.Context, p Probe) error {
	i := slices.IndexFunc(r.opts.Nodes, func(n Node) bool { return n.Name() == p.Node })
	if i < 0 {
		return fmt.Errorf("%w %q", ErrUnknownNode, p.Node)
	}
	if !plainName.MatchString(p.Name) {
		return fmt.Errorf("name %q is not made of [a-z0-9-]", p.Name)
	}
	if p.Params == nil {
		return errors.New("no parameters")
	}
	if err := p.Params.Validate(); err != nil {
		return err
	}
	p.Interval = cmp.Or(p.Interval, prober.DefaultInterval)
	p.Timeout = cmp.Or(p.Timeout, prober.DefaultTimeout)
	if p.Address == "" {
		address, err := r.Resolve(ctx, p.Params.Target())
		if err != nil {
			return err
		}
		p.Address = address
	}
	offset, err := r.opts.Clock.Compare(ctx, r.opts.Nodes[i])
	if err != nil {
		return err
	}
	dir := path.Join(stateDir, r.opts.Run)
	run := &probeRun{
		probe: p, node: r.opts.Nodes[i], pod: "prober-" + p.Name, dir: dir, file: path.Join(dir, p.Name+".ndjson"),
	}
	pod, err := r.proberPod(run)
	if err != nil {
		return err
	}
	// Known to Stop before it is made: whatever happens from here on is cleaned up.
	r.mu.Lock()
	if r.stopped {
		r.mu.Unlock()
		return errors.New("recorder was stopped")
	}
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	run.cancel, run.ended = cancel, make(chan struct{})
	run.follow = newFollower(r.store, run, offset)
	r.probes = append(r.probes, run)
	r.mu.Unlock()
	if err := r.createPod(ctx, pod); err != nil {
		close(run.ended)
		return err
	}
	go func() {
		defer close(run.ended)
		run.follow.run(background)
	}()
	select {
	case <-run.follow.first:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w: %s", ErrNoSamples, ctx.Err(), r.describePod(context.WithoutCancel(ctx), run.pod))
	}
}

// createPod waits for the namespace's service account, which a fresh namespace gets a moment later.
func (r *Recorder) createPod(ctx context.Context, pod *corev1.Pod) error {
	for {
		_, err := r.client.api.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{})
		if err == nil {
			return nil
		}
		if !apierrors.IsForbidden(err) && !apierrors.IsServerTimeout(err) || ctx.Err() != nil {
			return fmt.Errorf("make prober pod: %w", err)
		}
		sleep(ctx, 100*time.Millisecond)
	}
}

// describePod says in a few words what the pod is waiting for.
func (r *Recorder) describePod(ctx context.Context, name string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	pod, err := r.client.api.CoreV1().Pods(r.opts.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err.Error()
	}
	said := []string{"pod " + string(pod.Status.Phase), pod.Status.Reason, pod.Status.Message}
	for _, c := range pod.Status.ContainerStatuses {
		switch {
		case c.State.Waiting != nil:
			said = append(said, c.State.Waiting.Reason, c.State.Waiting.Message)
		case c.State.Terminated != nil:
			said = append(said, "ended with code "+strconv.Itoa(int(c.State.Terminated.ExitCode)), c.State.Terminated.Message)
		}
	}
	return strings.Join(slices.DeleteFunc(said, func(s string) bool { return s == "" }), ": ")
}

// proberPod is pinned to its node past the scheduler and tolerates everything that may befall it there. It sees the
// node's processes, so that its own id is the node's too and whoever follows its file can tell when it has ended.
func (r *Recorder) proberPod(run *probeRun) (*corev1.Pod, error) {
	p := run.probe
	params, err := json.Marshal(p.Params)
	if err != nil {
		return nil, fmt.Errorf("encode parameters: %w", err)
	}
	config, err := json.Marshal(prober.Config{
		Probe: p.Name, Vantage: vantage(p.Node), Type: p.Type, Params: params, Address: p.Address,
		Connections: p.Connections, Interval: p.Interval, Timeout: p.Timeout, MaxDuration: r.opts.MaxDuration,
	})
	if err != nil {
		return nil, fmt.Errorf("encode config: %w", err)
	}
	no, yes, grace, root := false, true, int64(proberGrace), int64(0)
	hostPathType := corev1.HostPathDirectoryOrCreate
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.opts.Namespace, Name: run.pod, Labels: ourLabels(r.opts.Run)},
		Spec: corev1.PodSpec{
			NodeName:                      p.Node,
			HostPID:                       true,
			RestartPolicy:                 corev1.RestartPolicyOnFailure,
			TerminationGracePeriodSeconds: &grace,
			AutomountServiceAccountToken:  &no,
			EnableServiceLinks:            &no,
			Tolerations:                   []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers: []corev1.Container{{
				Name: "prober", Image: r.opts.Image, ImagePullPolicy: corev1.PullIfNotPresent,
				Command: []string{"/rebound", "prober", "--config", string(config), "--out", run.file},
				// The share of the processor that is asked for keeps the ticks on time while the node is busy.
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
					corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("16Mi"),
				}},
				SecurityContext: &corev1.SecurityContext{
					RunAsUser: &root, AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
				VolumeMounts:             []corev1.VolumeMount{{Name: "samples", MountPath: run.dir}},
				TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
			}},
			Volumes: []corev1.Volume{{Name: "samples", VolumeSource: corev1.VolumeSource{
				HostPath: &corev1.HostPathVolumeSource{Path: run.dir, Type: &hostPathType},
			}}},
		},
	}, nil
}

func vantage(node string) string { return "node/" + node }

// stopProbe reads what is left of the file, then removes the pod.
func (r *Recorder) stopProbe(ctx context.Context, run *probeRun) error {
	run.cancel()
	<-run.ended
	var errs []error
	if err := run.follow.rest(ctx); err != nil {
		errs = append(errs, fmt.Errorf("read the last samples: %w", err))
	}
	grace := int64(proberGrace)
	soon := metav1.DeleteOptions{GracePeriodSeconds: &grace}
	err := r.client.api.CoreV1().Pods(r.opts.Namespace).Delete(ctx, run.pod, soon)
	if err != nil && !apierrors.IsNotFound(err) {
		errs = append(errs, fmt.Errorf("remove prober pod: %w", err))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("probe %s: %w", run.probe.Name, err)
	}
	return nil
}

// removeFiles removes the run's folder from each node that had a prober.
func (r *Recorder) removeFiles(ctx context.Context, probes []*probeRun) error {
	var errs []error
	done := map[string]bool{}
	for _, run := range probes {
		if done[run.probe.Node] {
			continue
		}
		done[run.probe.Node] = true
		if _, err := run.node.Exec(ctx, "rm", "-rf", "--", run.dir); err != nil {
			errs = append(errs, fmt.Errorf("remove samples from node %s: %w", run.probe.Node, err))
			continue
		}
		// The folder above goes with the last run in it. Another run may remove it first: find does not mind.
		above, name := path.Split(stateDir)
		_, err := run.node.Exec(ctx, "find", above, "-maxdepth", "1", "-name", name, "-empty", "-delete")
		if err != nil {
			errs = append(errs, fmt.Errorf("remove %s from node %s: %w", stateDir, run.probe.Node, err))
		}
	}
	return errors.Join(errs...)
}

// Resolve turns a service reference, WORKLOAD/SERVICE or WORKLOAD/SERVICE:PORT, into the service's IP:port. The
// workload may be a namespace of its own name where no workload is called so.
func (r *Recorder) Resolve(ctx context.Context, ref string) (string, error) {
	workload, rest, ok := strings.Cut(ref, "/")
	if !ok {
		return "", fmt.Errorf("service %q is not WORKLOAD/SERVICE", ref)
	}
	name, port, _ := strings.Cut(rest, ":")
	namespace := workload
	for ns, w := range r.opts.Workloads {
		if w == workload {
			namespace = ns
		}
	}
	service, err := r.client.api.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("resolve service %s: %w", ref, err)
	}
	if service.Spec.ClusterIP == "" || service.Spec.ClusterIP == corev1.ClusterIPNone {
		return "", fmt.Errorf("service %s has no address of its own", ref)
	}
	number, err := servicePort(service, port)
	if err != nil {
		return "", fmt.Errorf("service %s: %w", ref, err)
	}
	return net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(number))), nil
}

// servicePort finds the port by name or number; without one it is the one called http, or else the first.
func servicePort(service *corev1.Service, want string) (int32, error) {
	ports := service.Spec.Ports
	if len(ports) == 0 {
		return 0, errors.New("no ports")
	}
	i := slices.IndexFunc(ports, func(p corev1.ServicePort) bool {
		if want == "" {
			return p.Name == "http"
		}
		return p.Name == want || strconv.Itoa(int(p.Port)) == want
	})
	switch {
	case i >= 0:
		return ports[i].Port, nil
	case want == "":
		return ports[0].Port, nil
	}
	return 0, fmt.Errorf("no port %q", want)
}
