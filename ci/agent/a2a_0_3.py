"""The official Python client of A2A from before v1.0, a2a-sdk 0.3.26, against the example agent.

    a2a_0_3.py http://127.0.0.1:PORT

It keeps the task itself, from what it hears.
"""
import asyncio
import sys
import uuid

import httpx
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.types import Message, Part, Role, TaskArtifactUpdateEvent, TaskIdParams, TaskQueryParams, TaskState, TextPart

base = sys.argv[1]


async def main():
    async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
        card = await A2ACardResolver(http, base, ".well-known/agent-card.json?user=py&pace=40").get_agent_card()
        assert card.protocol_version.startswith("0.3"), card
        client = ClientFactory(ClientConfig(httpx_client=http)).create(card)
        part = Part(root=TextPart(text="the tides"))
        message = Message(message_id=str(uuid.uuid4()), role=Role.user, parts=[part])
        pieces = 0
        stream = client.send_message(message)
        async for task, update in stream:
            pieces += isinstance(update, TaskArtifactUpdateEvent)
            if pieces == 3:
                break
        await stream.aclose()
        assert task.status.state == TaskState.working, task

        more = 0
        async for task, update in client.resubscribe(TaskIdParams(id=task.id)):
            more += update is not None
        final = await client.get_task(TaskQueryParams(id=task.id))
        assert final.status.state == TaskState.completed, final
        assert task.artifacts == final.artifacts, (task, final)
        assert task.status == final.status, (task, final)
        # Not the history: this client appends a status's message when it comes, the official servers, and the example, when
        # the next one takes its place.
        print(f"  a2a-sdk 0.3.26: cut in the middle, back with the task and {more} more, the same final task")


asyncio.run(asyncio.wait_for(main(), 60))
