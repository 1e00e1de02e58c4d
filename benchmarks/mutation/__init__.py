"""Mutation tests: do the tests notice small changes of the code?"""
