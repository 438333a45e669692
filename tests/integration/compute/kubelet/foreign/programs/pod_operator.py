"""The example values of the KubernetesPodOperator's own guide, and a pod that fails, as DAGs.

``python pod_operator.py DAG...`` runs them here and now, one after the other. No argument of an
operator speaks of twinfra: cluster and namespace are those of the connection
``kubernetes_default``.

Source: Apache Airflow, provider cncf-kubernetes, guide "KubernetesPodOperator" and its example DAG.
"""

import json
import sys
from datetime import UTC, datetime

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.secret import Secret
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG
from kubernetes.client import models as k8s

START = datetime(2021, 1, 1, tzinfo=UTC)

with DAG(dag_id="resources", schedule=None, start_date=START) as resources:
    KubernetesPodOperator(
        image="ubuntu:16.04",
        cmds=["bash", "-cx"],
        arguments=["echo 10; cat /etc/sql_conn/sql_alchemy_conn; env"],
        labels={"foo": "bar"},
        secrets=[
            Secret("volume", "/etc/sql_conn", "airflow-secrets", "sql_alchemy_conn"),
            Secret("env", "SQL_CONN", "airflow-secrets", "sql_alchemy_conn"),
            Secret("env", None, "airflow-secrets-2"),
        ],
        ports=[k8s.V1ContainerPort(name="http", container_port=80)],
        env_from=[
            k8s.V1EnvFromSource(config_map_ref=k8s.V1ConfigMapEnvSource(name="test-configmap-1")),
            k8s.V1EnvFromSource(config_map_ref=k8s.V1ConfigMapEnvSource(name="test-configmap-2")),
        ],
        name="airflow-test-pod",
        task_id="task",
        on_finish_action="delete_pod",
        hostnetwork=False,
        tolerations=[k8s.V1Toleration(key="key", operator="Equal", value="value")],
        init_containers=[
            k8s.V1Container(
                name="init-container",
                image="ubuntu:16.04",
                env=[
                    k8s.V1EnvVar(name="key1", value="value1"),
                    k8s.V1EnvVar(name="key2", value="value2"),
                ],
                command=["bash", "-cx"],
                args=["echo 10"],
            )
        ],
    )

with DAG(dag_id="xcom", schedule=None, start_date=START) as xcom:
    write_xcom = KubernetesPodOperator(  # noqa: AIR001 - the example's own names
        image="alpine:3.24.2",
        cmds=["sh", "-c", "mkdir -p /airflow/xcom/;echo '[1,2,3,4]' > /airflow/xcom/return.json"],
        name="write-xcom",
        do_xcom_push=True,
        on_finish_action="delete_pod",
        task_id="write-xcom",
        get_logs=True,
    )
    pod_task_xcom_result = BashOperator(
        bash_command="echo \"{{ task_instance.xcom_pull('write-xcom')[0] }}\"",
        task_id="pod_task_xcom_result",
    )
    write_xcom >> pod_task_xcom_result

with DAG(dag_id="failing", schedule=None, start_date=START) as failing:
    KubernetesPodOperator(
        image="debian",
        cmds=["bash", "-cx"],
        arguments=["echo before the end; exit 3"],
        name="fails",
        on_finish_action="keep_pod",
        task_id="fails",
    )

if __name__ == "__main__":
    known = {dag.dag_id: dag for dag in (resources, xcom, failing)}
    tasks = [task for name in sys.argv[1:] for task in known[name].test().get_task_instances()]
    sys.stdout.write(json.dumps({task.task_id: task.state for task in tasks}) + "\n")
