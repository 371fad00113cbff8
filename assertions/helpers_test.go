package assertions

import (
	"time"
)

const s = time.Second

func ptr[T any](v T) *T { return &v }

// answers builds a stream from a picture: one letter a tick, "." good, "x" refused at once, "h" hangs until the
// time-out, "-" not asked, "w" waits for two ticks and is good.
func answers(interval time.Duration, picture string) Stream {
	st := Stream{Probe: "front", Interval: interval, Timeout: 5 * interval}
	for i, c := range picture {
		start := time.Duration(i) * interval
		p := Sample{Due: start, Start: start, End: start + interval/10, OK: c == '.' || c == 'w'}
		switch c {
		case '-':
			continue
		case 'h':
			p.End = start + st.Timeout
		case 'w':
			p.End = start + 2*interval
		}
		st.Samples = append(st.Samples, p)
	}
	return st
}

// fault is a step that began and was effective at 10 s.
func fault(victims ...Ref) Step {
	return Step{Name: "cut", Kind: Fault, At: 10 * s, Effective: &Interval{10 * s, 10 * s}, Done: ptr(10 * s),
		Victims: victims}
}

const web = "shop/deployment/web"

// pod is a fact about a pod of the workload, seen 100 ms after its change at the latest.
func pod(at time.Duration, uid string, change ...func(*Fact)) Fact {
	f := Fact{At: at, NotBefore: at - 100*ms, Source: "pods", Pod: &PodState{UID: uid, Name: uid, Workload: web, Node: "n-" + uid,
		Scheduled: true, Started: true, Ready: true, Containers: []ContainerState{{Name: "c", ID: uid + "/0", Running: true}}}}
	for _, c := range change {
		c(&f)
	}
	return f
}

func unready(f *Fact)  { f.Pod.Ready = false }
func deleting(f *Fact) { f.Pod.Deleting = true }
func gone(f *Fact)     { f.Gone = true }
func pending(f *Fact)  { f.Pod.Scheduled, f.Pod.Started, f.Pod.Ready = false, false, false }
func starting(f *Fact) { f.Pod.Started, f.Pod.Ready = false, false }
func renewed(f *Fact)  { f.Pod.Containers[0].ID += "/1" }
func stopped(f *Fact) {
	f.Pod.Containers[0].Running, f.Pod.Started, f.Pod.Ready = false, false, false
}

func victim(uid string) Ref {
	return Ref{Kind: "Pod", Name: uid, UID: uid, Containers: []string{uid + "/0"}, Workload: web}
}

func desired(at time.Duration, n int) Fact {
	return Fact{At: at, Source: "workloads", Workload: &WorkloadState{Workload: web, Desired: n}}
}

func endpoint(at time.Duration, uid string, ready bool) Fact {
	return Fact{At: at, NotBefore: at - 100*ms, Source: "endpoints",
		Endpoint: &EndpointState{Service: "shop/web", PodUID: uid, Ready: ready}}
}

func node(at time.Duration, name, ready string, taints ...string) Fact {
	return Fact{At: at, NotBefore: at - 100*ms, Source: "nodes", Node: &NodeState{Name: name, Ready: ready, Taints: taints}}
}
