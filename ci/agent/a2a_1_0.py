"""The official Python client of A2A, a2a-sdk 1.3.0, against the example agent: in v1.0 and in v0.3.

    a2a_1_0.py http://127.0.0.1:PORT
"""
import asyncio
import sys
import uuid

import httpx
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.types.a2a_pb2 import (
    GetTaskRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    SubscribeToTaskRequest,
    TaskState,
)
from a2a.utils.errors import TaskNotFoundError, UnsupportedOperationError

base = sys.argv[1]


async def client_of(version):
    """A client that speaks `version`, by the agent's own card."""
    http = httpx.AsyncClient(timeout=30, trust_env=False)
    card = await A2ACardResolver(http, base, ".well-known/agent-card.json?user=py&pace=40").get_agent_card()
    others = [one for one in card.supported_interfaces if one.protocol_version != version]
    for other in others:
        card.supported_interfaces.remove(other)
    assert len(card.supported_interfaces) == 1, card
    return ClientFactory(ClientConfig(httpx_client=http)).create(card)


def asking(text):
    message = Message(message_id=str(uuid.uuid4()), role=Role.ROLE_USER, parts=[Part(text=text)])
    return SendMessageRequest(message=message)


def fold(task, event):
    """What a client makes of a task that it hears of."""
    match event.WhichOneof("payload"):
        case "task":
            return event.task
        case "status_update":
            if task.status.HasField("message"):
                task.history.append(task.status.message)
            task.status.CopyFrom(event.status_update.status)
        case "artifact_update":
            update = event.artifact_update
            known = [one for one in task.artifacts if one.artifact_id == update.artifact.artifact_id]
            if not known:
                task.artifacts.append(update.artifact)
            elif update.append:
                known[0].parts.extend(update.artifact.parts)
            else:
                known[0].CopyFrom(update.artifact)
        case other:
            raise AssertionError(f"a {other} in the stream of a task")
    return task


async def refused(what, error):
    try:
        await what
    except error:
        return
    raise AssertionError(f"no {error.__name__}")


async def exhaust(stream):
    return [event async for event in stream]


async def speak(version):
    client = await client_of(version)
    cut = []
    stream = client.send_message(asking("the tides"))
    async for event in stream:
        cut.append(event)
        if sum(one.HasField("artifact_update") for one in cut) == 3:
            break
    await stream.aclose()
    task_id = cut[0].task.id
    now = await client.get_task(GetTaskRequest(id=task_id))
    assert now.status.state == TaskState.TASK_STATE_WORKING, now

    rest = await exhaust(client.subscribe(SubscribeToTaskRequest(id=task_id)))
    task = None
    for event in rest:
        task = fold(task, event)
    final = await client.get_task(GetTaskRequest(id=task_id))
    assert final.status.state == TaskState.TASK_STATE_COMPLETED, final
    assert task == final, (task, final)
    report = "".join(part.text for part in final.artifacts[0].parts)
    assert report.startswith("Report on “the tides”: ") and report.endswith(" reads it."), report

    await refused(client.get_task(GetTaskRequest(id="nobody")), TaskNotFoundError)
    await refused(exhaust(client.subscribe(SubscribeToTaskRequest(id="nobody"))), TaskNotFoundError)
    await refused(exhaust(client.subscribe(SubscribeToTaskRequest(id=task_id))), UnsupportedOperationError)
    print(f"  a2a-sdk 1.3.0, v{version}: cut after {len(cut)} events, back with the task and {len(rest) - 1} more, the same final task")


async def main():
    for version in ["1.0", "0.3"]:
        await asyncio.wait_for(speak(version), 60)


asyncio.run(main())
