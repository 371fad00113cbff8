package demo

import (
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	// Name is the name of the Deployment, the Service and the ConfigMap.
	Name = "demo"
	// port is where the pods listen; the Service is on 80.
	port = 8080
	// graceSeconds covers the drain and the close of what is busy, and little more: pods are to end quickly.
	graceSeconds = 3
	configDir    = "/etc/demo"
	dataDir      = "/data"
)

// Objects are the demo as a workload: a ConfigMap, a Deployment and a Service, all called "demo". The image holds this
// program as /rebound; env sets or replaces environment variables (see Variables).
func Objects(namespace, image string, replicas int, env map[string]string) []runtime.Object {
	meta := func() metav1.ObjectMeta {
		return metav1.ObjectMeta{
			Namespace: namespace, Name: Name, Labels: map[string]string{
				"app.kubernetes.io/name": Name, "rebound.dev/managed": "true",
			},
		}
	}
	count := int32(replicas)
	selector := map[string]string{"app.kubernetes.io/name": Name}
	return []runtime.Object{
		&corev1.ConfigMap{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
			ObjectMeta: meta(), Data: map[string]string{"config.yaml": "greeting: hello\n"},
		},
		&appsv1.Deployment{
			TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
			ObjectMeta: meta(),
			Spec: appsv1.DeploymentSpec{
				Replicas: &count,
				Selector: &metav1.LabelSelector{MatchLabels: selector},
				Template: corev1.PodTemplateSpec{
					ObjectMeta: metav1.ObjectMeta{Labels: meta().Labels},
					Spec:       podSpec(image, env, selector),
				},
			},
		},
		&corev1.Service{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
			ObjectMeta: meta(),
			Spec: corev1.ServiceSpec{
				Selector: selector,
				Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(port)}},
			},
		},
	}
}

// podSpec spreads the pods over nodes where it can. Probes run each second: that is Kubernetes' own floor.
func podSpec(image string, env map[string]string, selector map[string]string) corev1.PodSpec {
	grace, no := int64(graceSeconds), false
	return corev1.PodSpec{
		TerminationGracePeriodSeconds: &grace,
		AutomountServiceAccountToken:  &no,
		EnableServiceLinks:            &no,
		TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector: &metav1.LabelSelector{MatchLabels: selector},
		}},
		Containers: []corev1.Container{{
			Name: Name, Image: image, ImagePullPolicy: corev1.PullIfNotPresent,
			Command: []string{"/rebound", "demo"},
			Env:     environment(env),
			Ports:   []corev1.ContainerPort{{Name: "http", ContainerPort: port}},
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("24Mi"),
			}},
			StartupProbe:   probe("/startupz", 120),
			ReadinessProbe: probe("/readyz", 1),
			LivenessProbe:  probe("/healthz", 3),
			VolumeMounts: []corev1.VolumeMount{
				{Name: "config", MountPath: configDir, ReadOnly: true}, {Name: "data", MountPath: dataDir},
			},
		}},
		Volumes: []corev1.Volume{
			{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: Name},
			}}},
			{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		},
	}
}

// probe asks each second and gives up after the number of failures.
func probe(path string, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("http")}},
		PeriodSeconds: 1, TimeoutSeconds: 1, FailureThreshold: failures,
	}
}

// environment is the pod's own name, config and data folder, and what the caller sets, in a fixed order.
func environment(env map[string]string) []corev1.EnvVar {
	merged := map[string]string{
		"REBOUND_DEMO_CONFIG": configDir + "/config.yaml",
		"REBOUND_DEMO_DATA":   dataDir,
	}
	maps.Copy(merged, env)
	var vars []corev1.EnvVar
	if _, given := merged["REBOUND_DEMO_POD"]; !given {
		vars = append(vars, corev1.EnvVar{Name: "REBOUND_DEMO_POD", ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"},
		}})
	}
	for _, name := range slices.Sorted(maps.Keys(merged)) {
		vars = append(vars, corev1.EnvVar{Name: name, Value: merged[name]})
	}
	return vars
}
