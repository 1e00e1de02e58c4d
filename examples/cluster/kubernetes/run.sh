#!/usr/bin/env bash
# One load from the nodes of a Kubernetes cluster, with the image of `make image`:
#   examples/cluster/kubernetes/run.sh http://server:8000/v1 my-model
# The cluster needs a storage class for ReadWriteMany. What it made is removed by:
#   kubectl delete configmap tunedyno-load
#   kubectl delete -f examples/cluster/kubernetes/
set -euo pipefail

here=$(dirname "$0")
# One start for all. Until then, each node pulls the image and is calibrated.
start=$(date -u -d '+10 minutes' +%Y-%m-%dT%H:%M:%SZ)
kubectl create configmap tunedyno-load \
  --from-literal=URL="$1" --from-literal=MODEL="$2" --from-literal=START_AT="$start"
kubectl apply -f "$here/load.yaml"
until kubectl get job tunedyno-load -o 'jsonpath={.status.conditions[*].type}' | grep -qwE 'Complete|Failed'; do
  sleep 10
done

kubectl apply -f "$here/merge.yaml"
kubectl wait pod/tunedyno-merge --for=condition=Ready --timeout=5m
kubectl exec tunedyno-merge -- dyno merge --partial load --out merged
kubectl cp tunedyno-merge:/parts/merged ./runs
