package dynamic

import (
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"rollcall/discovery/resource"
)

func kubeForm() form[types.KubeCluster] {
	return form[types.KubeCluster]{
		blank: func() types.KubeCluster { return &types.KubernetesClusterV3{} },
		read:  readKube,
		merge: mergeKube,
	}
}

func readKube(cluster types.KubeCluster) resource.Resource {
	spec := resource.KubeClusterSpec{Kubeconfig: resource.Secret(cluster.GetKubeconfig())}
	if v3, ok := cluster.(*types.KubernetesClusterV3); ok {
		spec.DynamicLabels = readDynamicLabels(v3.Spec.DynamicLabels)
	}
	return readMetadata(resource.KindKubeCluster, cluster.GetMetadata(), spec)
}

func mergeKube(into types.KubeCluster, r resource.Resource) error {
	cluster, ok := into.(*types.KubernetesClusterV3)
	if !ok {
		return trace.BadParameter("this version of rollcall doesn't know a Kubernetes cluster of the type %T", into)
	}
	spec, err := specOf[resource.KubeClusterSpec](r)
	if err != nil {
		return trace.Wrap(err)
	}
	if spec.Kubeconfig == "" {
		return trace.BadParameter("it has no kubeconfig")
	}
	labels, err := writeDynamicLabels(spec.DynamicLabels)
	if err != nil {
		return trace.Wrap(err)
	}
	writeMetadata(&cluster.Metadata, r)
	// Bytes here; base64 in Teleport's own YAML and JSON.
	cluster.Spec.Kubeconfig = []byte(spec.Kubeconfig.Reveal())
	cluster.Spec.DynamicLabels = labels
	return trace.Wrap(cluster.CheckAndSetDefaults())
}
