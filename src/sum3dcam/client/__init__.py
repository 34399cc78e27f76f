"""Talks to a sum3dcam server over HTTP or gRPC, and draws what it answers.

>>> from sum3dcam.client.http import HttpClient
>>> client = HttpClient("http://127.0.0.1:8080")  # connects at the first request
>>> client.close()
"""
